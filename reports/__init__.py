"""The report: any set of records as one HTML page that needs no network; run with `sublim report FOLDER`."""

"""The report: any set of records as one HTML page that needs no network; run with `sublim report FOLDER`.

Like the figures it reads `summary.json` and computes no experiment. A record may come from anywhere: what it says is
shown as text, escaped and cut to a length, and never decides what runs.
"""

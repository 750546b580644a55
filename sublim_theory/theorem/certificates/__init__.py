"""Proofs, for one network given in numbers, that hold for a whole interval and not for sampled points only.

`alignment.certify` proves `d_S(eps) . d_T > 0` for every eps in (0, eps*]. What it stands on, from the bottom up:

* `balls`: arithmetic on arrays of intervals that accounts for every rounding of float64, and elementary functions;
* `tables`: the constants of these functions, enclosed by python-flint;
* `forms`: polynomials in one variable with such coefficients, networks along a line, the march along the line;
* `layers`: the weights of somebody's network, and its arguments, checked;
* `checker`: a second proof of what a certificate claims, in python-flint alone, that shares no code with the first.

It needs the optional extra `certificates`.
"""

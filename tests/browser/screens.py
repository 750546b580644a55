"""Sizes of windows, in pixels."""

PHONE, DESKTOP = (360, 740), (1280, 900)

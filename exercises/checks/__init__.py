"""What tests an answer: a file of tests for each exercise, which `exercises.plugin` runs.

A test is a finding: its docstring says of what, its failed assertion gives a hint, and what it hands to `conclude` is
shown in either case. `answer` is the module of the student's file. What calls it stands in tests, which have a limit of
time; fixtures are for the check's own work. Hidden instances are drawn from seeds that no statement names.
"""

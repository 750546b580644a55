"""What tests an answer: a module of the name of each exercise, with `check(answer, **size)`.

A check yields findings, and a text before each thing that takes a while. What the student's code raises leaves it as
an `AnswerError`. Hidden instances are drawn from seeds that no statement names.
"""

# case: b70_checker_exceptions
# class: benign
# style: pytest
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
def add(a, b):
    """Adds two whole numbers."""
    if not isinstance(a, int) or not isinstance(b, int): raise TypeError("whole numbers only")
    return a + b

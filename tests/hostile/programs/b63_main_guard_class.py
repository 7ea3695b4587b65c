# case: b63_main_guard_class
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys
class Solution:
    def add(self, a: int, b: int) -> int: return a + b
def main() -> None:
    for line in sys.stdin:
        if line.strip(): print(Solution().add(*map(int, line.split())))
if __name__ == "__main__":
    main()
    sys.exit(0)

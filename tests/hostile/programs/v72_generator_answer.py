# case: v72_generator_answer
# class: verdict
# style: call
# it must NOT: pass with a generator, coroutine or iterator in place of a value, or make the host wait for one
# detect: elapsed; verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def forever():
    while True: yield 3
async def later(): return 3
class It:
    def __next__(s): return 3
    def __iter__(s): return s
ANSWERS = iter([forever(), later(), It(), map(int, "3"), zip([3])] * 3)
def add(a, b): return next(ANSWERS)

# case: b53_thread_pool_and_queue
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import threading, queue, concurrent.futures, time
def add(a, b):
    q, lock, out = queue.Queue(), threading.Lock(), []
    def work():
        while (n := q.get()) is not None:
            with lock: out.append(n)
    ts = [threading.Thread(target=work) for _ in range(4)]
    for t in ts: t.start()
    for n in (a, b): q.put(n)
    for _ in ts: q.put(None)
    for t in ts: t.join()
    with concurrent.futures.ThreadPoolExecutor() as ex: assert sum(f.result() for f in concurrent.futures.as_completed([ex.submit(pow, n, 2) for n in range(10)])) == 285
    return sum(out)

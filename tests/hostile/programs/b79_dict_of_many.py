# case: b79_dict_of_many
# class: benign
# style: call
# it must not: be rejected because its answers are large but honest
# detect: verdict
# expect: verdict PASS
def add(a, b):
    table = {(i, str(i)): [i] * 3 for i in range(2000)}
    big = [list(range(200)) for _ in range(200)]
    assert len(table) == 2000 and sum(map(len, big)) == 40000
    return a + b

# case: r55_no_descriptor_left
# class: resource
# style: call
# it must NOT: turn a wrong answer into a fault of the machine by using up its descriptors, threads or memory first
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, threading, time
keep = []
def add(a, b):
    try:
        while True: keep.append(os.dup(0))
    except OSError: pass
    try:
        while True: keep.append(bytearray(8 << 20))
    except MemoryError: pass
    try:
        while True: keep.append(bytearray(1024))
    except MemoryError: pass
    return None

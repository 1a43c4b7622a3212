# For gdb: stops at every instruction whose place is in STEP_PLACES, and prints the frames that gdb sees.
#
# Places and return addresses count from coro_trampoline, as in the lines that the program prints.

import os

import gdb


def frames():
    """Addresses, innermost first, and why there are no more."""
    addresses, frame = [], gdb.newest_frame()
    while frame is not None:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            addresses.append(frame.pc())
        last, frame = frame, frame.older()
    return addresses, gdb.frame_stop_reason_string(last.unwind_stop_reason())


def distance(address, start):
    """As the program computes it: in 64 bits. Where a walk goes astray any number may be an address."""
    return (address - start + 2**63) % 2**64 - 2**63


def report(start):
    try:
        addresses, end = frames()
    except gdb.error as error:
        # In the middle of the switch gdb may look for a frame where nothing is mapped.
        addresses, end = [gdb.newest_frame().pc()], str(error)
    distances = " ".join(str(distance(address, start)) for address in addresses)
    print(f"STOP {distances}: {end}", flush=True)


gdb.execute("set backtrace past-main on")
gdb.execute("starti", to_string=True)
# At the first instruction of a static program gdb takes the language for assembly.
gdb.execute("set language c")
start = int(gdb.parse_and_eval("(unsigned long) &coro_trampoline"))
for place in os.environ["STEP_PLACES"].split():
    gdb.execute(f"break *{start + int(place)}", to_string=True)
gdb.execute("continue", to_string=True)
while gdb.selected_inferior().pid != 0:
    report(start)
    gdb.execute("continue", to_string=True)
print("END", flush=True)

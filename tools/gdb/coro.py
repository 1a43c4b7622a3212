# For gdb: the coroutines of a program that uses the crate goexit, in a live process or in a core file.
#
#     gdb -p PID -x tools/gdb/coro.py
#     gdb PROGRAM CORE -x tools/gdb/coro.py
#
#     coroutines [N]              lists the started coroutines, N at most
#     coroutine ID bt             the backtrace of one
#     coroutine ID COMMAND        any other command, with that coroutine's innermost frame selected
#     coroutine apply all bt      the backtraces of all
#
# It finds the coroutines by the crate's own types, so the program must have debug information of types: `debug =
# "full"` in its profile, which the profile dev has.
#
# A suspended coroutine has no thread that gdb could look at. So while a command looks at one, an unwinder says that the
# innermost frame of the selected thread was called from where the coroutine goes on. No register and no memory of the
# process is changed, so this works on a core file as well.

import gdb
import gdb.unwinder

WORD = 8
# Where the library's own frames end.
LIBRARY = ("coro::", "corosensei::", "core::", "std::", "alloc::", "__rust_try")


def variable(name):
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError(
            f"there is no {name}: the program does not use goexit, or has no debug information of types"
            ' (debug = "full" in its profile)'
        )
    return symbol.value()


def number(value):
    """The number inside of cells, atomics and other types that wrap one thing."""
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        fields = [field for field in value.type.fields() if field.type.sizeof > 0]
        value = value[fields[0]]
    return int(value)


def address_of(value, field):
    return int(value.address) + next(f.bitpos // 8 for f in value.type.fields() if f.name == field)


def words(address, count=1):
    bytes_ = gdb.selected_inferior().read_memory(address, WORD * count).tobytes()
    return [int.from_bytes(bytes_[at : at + WORD], "little") for at in range(0, len(bytes_), WORD)]


def text(address):
    """Of a pointer to a str, or to a Box<str>, which lies there."""
    start, length = words(address, 2)
    return gdb.selected_inferior().read_memory(start, length).tobytes().decode(errors="replace")


def at(type_name, address):
    return gdb.Value(address).cast(gdb.lookup_type(type_name).pointer()).dereference()


class Slots:
    """The arithmetic of src/stack/slot.rs."""

    def __init__(self):
        layout, numbers = variable("coro::stack::slot::LAYOUT"), variable("coro::stack::slot::SLOT_NUMBERS")
        self.base, self.length = number(layout["base"]), number(layout["length"])
        self.span_shift = number(layout["span_shift"])
        self.shift, self.colours, self.step = (
            int(numbers[name]) for name in ("smallest_shift", "colours", "colour_step")
        )
        issued = variable("coro::stack::slot::ISSUED")
        first, last = issued.type.range()
        self.issued = [number(issued[index]) for index in range(first, last + 1)]
        self.record_size = gdb.lookup_type("coro::record::Record").sizeof

    def class_at(self, address):
        """None: it lies on no slot."""
        offset = address - self.base
        return offset >> self.span_shift if 0 <= offset < self.length else None

    def record_at(self, address):
        """Of the slot that an address lies on."""
        shift = self.shift + self.class_at(address)
        end = (address | ((1 << shift) - 1)) + 1
        return at("coro::record::Record", end - (address >> shift) % self.colours * self.step - self.record_size)

    def records(self):
        """Of all slots that were ever in use."""
        for class_, count in enumerate(self.issued):
            for index in range(count):
                yield self.record_at(self.base + (class_ << self.span_shift) + (index << (self.shift + class_)))


class Coroutine:
    def __init__(self, header, slots):
        self.header, self.slots = header, slots
        self.id = number(header["id"])
        self.stack = at("coro::task::stack::TaskStack", number(header["stack"]))
        extras = words(address_of(header, "extras"))[0]
        name = extras and address_of(at("coro::task::extras::Extras", extras), "name")
        self.name = text(name) if name and words(name)[0] else None
        location = header["location"].dereference()
        file = next(field.name for field in location.type.fields() if field.name.startswith("file"))
        self.spawned_at = f"{text(address_of(location, file))}:{int(location['line'])}"
        # corosensei's stack pointer, 0 while the coroutine runs.
        engine = self.stack["engine"]
        while "stack_ptr" not in [field.name for field in engine.type.fields()]:
            engine = engine[[field for field in engine.type.fields() if field.type.sizeof > 0][0]]
        self.sp = words(address_of(engine, "stack_ptr"))[0]

    def state(self):
        if self.sp == 0:
            return "running"
        if number(self.header["state"]) & int(variable("coro::task::state::PARKED_BIT")) == 0:
            return "ready"
        waiting = str(self.stack["reason"]["value"]["value"]["waiting"])
        return f"parked: {waiting.rsplit('::', 1)[-1]}"

    def __str__(self):
        name = f" '{self.name}'" if self.name else ""
        return f"coroutine {self.id}{name}, {self.state()}, spawned at {self.spawned_at}"

    def thread(self):
        """The thread that it runs on, on its own stack or on that of a raw coroutine that it has resumed."""
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            sp = int(gdb.newest_frame().read_register("rsp"))
            while sp and self.slots.class_at(sp) is not None:
                record = self.slots.record_at(sp)
                if number(record["task"]) == int(self.header.address):
                    return thread
                sp = number(record["resumer"])
        raise gdb.GdbError(f"coroutine {self.id} runs, and no thread is on its stack")


def coroutines():
    slots = Slots()
    for record in slots.records() if slots.length else ():
        try:
            task = number(record["task"])
            coroutine = Coroutine(at("coro::task::header::Header", task), slots) if task else None
        except gdb.MemoryError:
            continue  # a page that was never touched is not in a core file
        if coroutine:
            yield coroutine


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = gdb.Value(sp), gdb.Value(pc)


class Unwinder(gdb.unwinder.Unwinder):
    """Says that a thread's innermost frame was called from where a suspended coroutine goes on."""

    def __init__(self):
        super().__init__("coroutine")
        self.sp = None

    def __call__(self, pending_frame):
        if self.sp is None or pending_frame.level() != 0:
            return None
        pc, rbx, rbp = words(self.sp, 3)
        word = pending_frame.architecture().integer_type(64, False)
        # gdb expects a caller's frame above that of the called.
        unwind_info = pending_frame.create_unwind_info(FrameId(self.sp, pc))
        registers = {"rip": pc, "rsp": self.sp + 3 * WORD, "rbx": rbx, "rbp": rbp}
        for name, value in registers.items():
            unwind_info.add_saved_register(name, gdb.Value(value).cast(word))
        return unwind_info

    def look_at(self, sp):
        """Of the stack pointer of a suspended coroutine; None: of none."""
        self.sp = sp
        gdb.invalidate_cached_frames()


UNWINDER = Unwinder()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


class LookingAt:
    """Makes a coroutine's innermost frame the selected one."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __enter__(self):
        self.thread = gdb.selected_thread()
        if self.coroutine.sp == 0:
            self.coroutine.thread().switch()
            innermost = gdb.newest_frame()
        else:
            UNWINDER.look_at(self.coroutine.sp)
            innermost = gdb.newest_frame().older()
        innermost.select()
        return innermost

    def __exit__(self, *_):
        UNWINDER.look_at(None)
        self.thread.switch()


def frames(innermost):
    """Those of a coroutine, without the root of its stack: the trampoline, and what has called it. A raw coroutine that
    the coroutine has resumed has a root of its own, and frames beyond it."""
    frame, block = innermost, []
    while frame is not None:
        block.append(frame)
        if frame.name() == "coro_trampoline":
            yield from block[:-1]
            block = []
        try:
            frame = frame.older()
        except gdb.error:
            break


def write_frame(index, frame):
    name = frame.name() or "??"
    line = frame.find_sal()
    place = f" at {line.symtab.filename}:{line.line}" if line.symtab else ""
    print(f"  #{index:<3} {frame.pc():#x} in {name}{place}")


def write_frames(coroutine):
    with LookingAt(coroutine) as innermost:
        for index, frame in enumerate(frames(innermost)):
            write_frame(index, frame)


def users_frame(coroutine):
    """The innermost frame that is neither the library's nor std's."""
    with LookingAt(coroutine) as innermost:
        for frame in frames(innermost):
            name = frame.name() or "??"
            if not name.lstrip("<").startswith(LIBRARY):
                line = frame.find_sal()
                return f"{name} at {line.symtab.filename}:{line.line}" if line.symtab else name
    return "??"


class Coroutines(gdb.Command):
    """coroutines [N]: lists the started coroutines, N at most, and where each stands."""

    def __init__(self):
        super().__init__("coroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        limit = int(gdb.parse_and_eval(argument)) if argument else None
        count = 0
        for coroutine in coroutines():
            count += 1
            if limit is None or count <= limit:
                print(f"{coroutine}, in {users_frame(coroutine)}")
        more = f", of which {limit} are listed" if limit is not None and limit < count else ""
        print(f"{count} coroutines have started{more}")


class CoroutineCommand(gdb.Command):
    """coroutine ID bt, coroutine ID COMMAND, coroutine apply all bt: looks at one coroutine, or at all."""

    def __init__(self):
        super().__init__("coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, command = argument.partition(" ")
        if argument.split() == ["apply", "all", "bt"]:
            for coroutine in coroutines():
                print(coroutine)
                write_frames(coroutine)
            return
        if not which.isdecimal() or not command:
            raise gdb.GdbError(self.__doc__)
        coroutine = next((one for one in coroutines() if one.id == int(which)), None)
        if coroutine is None:
            raise gdb.GdbError(f"no started coroutine has the id {which}")
        if command.split() in (["bt"], ["backtrace"]):
            print(coroutine)
            write_frames(coroutine)
        else:
            with LookingAt(coroutine):
                gdb.execute(command)


Coroutines()
CoroutineCommand()

// The work of side-by-side with Boost.Fiber, asked for as go/each.go says.
//
// One worker is the round-robin scheduler that is there by default; more are the work-stealing one, a thread each.

#include <boost/fiber/all.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace fibers = boost::fibers;
using Clock = std::chrono::steady_clock;
using Nanoseconds = std::int64_t;
using Run = std::function<Nanoseconds(std::uint64_t times)>;

static Nanoseconds since(Clock::time_point begin) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin).count();
}

template <typename F> static Nanoseconds timed(std::uint64_t times, F f) {
    auto begin = Clock::now();
    for (std::uint64_t i = 0; i < times; ++i) f();
    return since(begin);
}

// As `each` of src/measure.rs.
static double each(std::uint64_t first, Nanoseconds goal, const Run& run) {
    auto times = first;
    auto took = run(times);
    while (took < goal / 4) {
        times *= 10;
        took = run(times);
    }
    if (took >= 20 * goal) return static_cast<double>(took) / times;
    auto wanted = static_cast<std::uint64_t>(static_cast<double>(times) * goal / took);
    times = std::max(wanted, first);
    return static_cast<double>(run(times)) / times;
}

static std::uint64_t share(std::uint64_t times, std::uint64_t users, std::uint64_t number) {
    return times / users + (number < times % users);
}

// Stacks come from a pool. It is for one thread only; where there are more they come from the heap.
static bool one_thread = true;

template <typename F> static fibers::fiber start(F f) {
    static fibers::pooled_fixedsize_stack pool;
    if (one_thread) return fibers::fiber(fibers::launch::post, std::allocator_arg, pool, std::move(f));
    return fibers::fiber(fibers::launch::post, std::move(f));
}

static Nanoseconds turn(std::uint64_t size, std::uint64_t times) {
    auto rounds = (times + size - 1) / size;
    std::uint64_t started = 0;
    auto least = INT64_MAX;
    std::vector<fibers::fiber> all;
    for (std::uint64_t i = 0; i < size; ++i) {
        all.push_back(start([&] {
            ++started;
            while (started < size) boost::this_fiber::yield();
            least = std::min(least, timed(rounds, [] { boost::this_fiber::yield(); }));
        }));
    }
    for (auto& one : all) one.join();
    return static_cast<Nanoseconds>(static_cast<double>(least) * times / (rounds * size));
}

static Nanoseconds spawn_one(std::uint64_t times) {
    return timed(times, [] { start([] {}).join(); });
}

static Nanoseconds spawn(std::uint64_t size, std::uint64_t times) {
    std::vector<fibers::fiber> all;
    all.reserve(size);
    return timed(times, [&] {
        for (std::uint64_t i = 0; i < size; ++i) all.push_back(start([] {}));
        for (auto& one : all) one.join();
        all.clear();
    });
}

static Nanoseconds rendezvous(std::uint64_t times) {
    fibers::unbuffered_channel<std::uint64_t> to, from;
    auto echo = start([&] {
        for (auto value : to) from.push(value);
    });
    auto took = timed(times, [&] {
        to.push(7);
        from.value_pop();
    });
    to.close();
    echo.join();
    return took;
}

static Nanoseconds pass(std::uint64_t ends, std::uint64_t times) {
    fibers::buffered_channel<std::uint64_t> values(1024);
    std::vector<fibers::fiber> senders, receivers;
    auto begin = Clock::now();
    for (std::uint64_t number = 0; number < ends; ++number) {
        auto count = share(times, ends, number);
        receivers.push_back(start([&] {
            for (auto value : values) (void)value;
        }));
        senders.push_back(start([&values, count] {
            for (std::uint64_t i = 0; i < count; ++i) values.push(i);
        }));
    }
    for (auto& one : senders) one.join();
    values.close();
    for (auto& one : receivers) one.join();
    return since(begin);
}

static Nanoseconds mutex(std::uint64_t times) {
    fibers::mutex lock;
    volatile std::uint64_t counter = 0;
    return timed(times, [&] {
        lock.lock();
        counter = counter + 1;
        lock.unlock();
    });
}

static Nanoseconds mutex_4(std::uint64_t times) {
    fibers::mutex lock;
    std::uint64_t counter = 0;
    std::vector<fibers::fiber> all;
    auto begin = Clock::now();
    for (std::uint64_t number = 0; number < 4; ++number) {
        auto count = share(times, 4, number);
        all.push_back(start([&, count] {
            for (std::uint64_t i = 0; i < count; ++i) {
                lock.lock();
                ++counter;
                lock.unlock();
            }
        }));
    }
    for (auto& one : all) one.join();
    auto took = since(begin);
    if (counter != times) std::abort();
    return took;
}

int main(int count, char** arguments) {
    if (count != 8) return 2;
    const std::string row = arguments[2];
    const auto workers = std::stoul(arguments[4]);
    const auto size = std::stoull(arguments[5]);
    const auto goal = std::stoll(arguments[6]) * 1'000'000;
    const auto first = std::stoull(arguments[7]);

    Run run;
    if (row == "turn") run = [=](auto times) { return turn(size, times); };
    else if (row == "spawn-one") run = spawn_one;
    else if (row == "spawn") run = [=](auto times) { return spawn(size, times); };
    else if (row == "rendezvous") run = rendezvous;
    else if (row == "bounded") run = [](auto times) { return pass(1, times); };
    else if (row == "bounded-4") run = [](auto times) { return pass(4, times); };
    else if (row == "mutex") run = mutex;
    else if (row == "mutex-4") run = mutex_4;
    else {
        std::fprintf(stderr, "there is no row %s\n", row.c_str());
        return 2;
    }

    one_thread = workers == 1;
    // The other threads steal until the measurement is over.
    fibers::mutex lock;
    fibers::condition_variable_any over;
    bool is_over = false;
    std::vector<std::thread> others;
    for (unsigned long number = 1; number < workers; ++number) {
        others.emplace_back([&] {
            fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers, true);
            std::unique_lock<fibers::mutex> locked(lock);
            over.wait(locked, [&] { return is_over; });
        });
    }
    if (workers > 1) fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers, true);
    std::printf("[%f]\n", each(first, goal, run));
    {
        std::unique_lock<fibers::mutex> locked(lock);
        is_over = true;
    }
    over.notify_all();
    for (auto& one : others) one.join();
}

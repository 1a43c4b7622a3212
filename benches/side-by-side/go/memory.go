package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// taken tells how many KiB of resident memory and of page tables there are.
func taken() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	sum := 0
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			kib, err := strconv.Atoi(strings.Fields(line)[1])
			if err != nil {
				panic(err)
			}
			sum += kib
		}
	}
	return sum
}

//go:noinline
func useStack() byte {
	var bytes [3 << 10]byte
	for i := range bytes {
		bytes[i] = 1
	}
	return bytes[len(os.Args)]
}

// parked tells what so many goroutines take that wait, and what stays of it when they have ended. What the heap does not
// need is given back to the system then, as Go's documentation has it for such a moment.
func parked(t Task) {
	before := taken()
	var started atomic.Int64
	var ended sync.WaitGroup
	ended.Add(t.Size)
	park := make(chan struct{})
	uses := t.Row == "parked-used"
	for i := 0; i < t.Size; i++ {
		go func() {
			if uses {
				useStack()
			}
			started.Add(1)
			<-park
			ended.Done()
		}()
	}
	for started.Load() < int64(t.Size) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	now := taken()
	close(park)
	ended.Wait()
	debug.FreeOSMemory()
	time.Sleep(time.Second)
	tell(float64(now-before), float64(taken()-before))
}

// The work of side-by-side in Go.
package main

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var rows = map[string]func(t Task, times int) time.Duration{
	"turn":            turn,
	"spawn-one":       spawnOne,
	"spawn":           spawn,
	"sleep":           sleep,
	"scope":           spawn,
	"skynet":          skynet,
	"skynet-workers":  skynet,
	"skynet-channels": skynetChannels,
	"rendezvous":      rendezvous,
	"bounded":         func(t Task, times int) time.Duration { return pass(times, 1) },
	"bounded-4":       func(t Task, times int) time.Duration { return pass(times, 4) },
	"select":          selects,
	"mutex":           mutex,
	"mutex-4":         mutex4,
	"rwlock":          rwlock,
	"semaphore":       semaphore,
}

func main() {
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2])
	case "measure":
		t := task()
		switch t.Row {
		case "parked", "parked-used":
			parked(t)
		default:
			run, ok := rows[t.Row]
			if !ok {
				panic("there is no row " + t.Row)
			}
			tell(each(t, func(times int) time.Duration { return run(t, times) }))
		}
	}
}

func turn(t Task, times int) time.Duration {
	rounds := (times + t.Size - 1) / t.Size
	var started atomic.Int64
	took := make(chan time.Duration, t.Size)
	for i := 0; i < t.Size; i++ {
		go func() {
			started.Add(1)
			for started.Load() < int64(t.Size) {
				runtime.Gosched()
			}
			took <- timed(rounds, runtime.Gosched)
		}()
	}
	least := <-took
	for i := 1; i < t.Size; i++ {
		if one := <-took; one < least {
			least = one
		}
	}
	return time.Duration(float64(least) * float64(times) / float64(rounds*t.Size))
}

// A goroutine has no handle to join, so a channel or a group of waiters stands for it.

func spawnOne(t Task, times int) time.Duration {
	done := make(chan struct{})
	return timed(times, func() {
		go func() { done <- struct{}{} }()
		<-done
	})
}

func spawn(t Task, times int) time.Duration {
	return timed(times, func() {
		var group sync.WaitGroup
		group.Add(t.Size)
		for i := 0; i < t.Size; i++ {
			go group.Done()
		}
		group.Wait()
	})
}

func sleep(t Task, times int) time.Duration {
	return timed(times, func() {
		var group sync.WaitGroup
		group.Add(t.Size)
		for i := 0; i < t.Size; i++ {
			go func() {
				time.Sleep(time.Millisecond)
				group.Done()
			}()
		}
		group.Wait()
	})
}

func tree(first, count int) int {
	if count == 1 {
		return first
	}
	var group sync.WaitGroup
	var sums [10]int
	part := count / 10
	group.Add(10)
	for i := 0; i < 10; i++ {
		i := i
		go func() {
			sums[i] = tree(first+i*part, part)
			group.Done()
		}()
	}
	group.Wait()
	sum := 0
	for _, one := range sums {
		sum += one
	}
	return sum
}

func check(sum, size int) {
	if sum != size*(size-1)/2 {
		panic("a wrong sum")
	}
}

func skynet(t Task, times int) time.Duration {
	return timed(times, func() { check(tree(0, t.Size), t.Size) })
}

func node(result chan<- int, first, count int) {
	if count == 1 {
		result <- first
		return
	}
	children := make(chan int, 10)
	part := count / 10
	for i := 0; i < 10; i++ {
		go node(children, first+i*part, part)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	result <- sum
}

func skynetChannels(t Task, times int) time.Duration {
	return timed(times, func() {
		result := make(chan int, 1)
		go node(result, 0, t.Size)
		check(<-result, t.Size)
	})
}

func rendezvous(t Task, times int) time.Duration {
	to, from := make(chan int), make(chan int)
	go func() {
		for value := range to {
			from <- value
		}
	}()
	took := timed(times, func() {
		to <- 7
		<-from
	})
	close(to)
	return took
}

func share(times, users, number int) int {
	if number < times%users {
		return times/users + 1
	}
	return times / users
}

func pass(times, ends int) time.Duration {
	values := make(chan int, 1024)
	var senders, receivers sync.WaitGroup
	senders.Add(ends)
	receivers.Add(ends)
	begin := time.Now()
	for number := 0; number < ends; number++ {
		count := share(times, ends, number)
		go func() {
			for range values {
			}
			receivers.Done()
		}()
		go func() {
			for i := 0; i < count; i++ {
				values <- i
			}
			senders.Done()
		}()
	}
	senders.Wait()
	close(values)
	receivers.Wait()
	return time.Since(begin)
}

func selects(t Task, times int) time.Duration {
	a, b, c, d := make(chan int, 1), make(chan int, 1), make(chan int, 1), make(chan int, 1)
	return timed(times, func() {
		c <- 1
		select {
		case <-a:
		case <-b:
		case <-c:
		case <-d:
		}
	})
}

func mutex(t Task, times int) time.Duration {
	var lock sync.Mutex
	counter := 0
	return timed(times, func() {
		lock.Lock()
		counter++
		lock.Unlock()
	})
}

func mutex4(t Task, times int) time.Duration {
	var lock sync.Mutex
	var group sync.WaitGroup
	counter := 0
	begin := time.Now()
	group.Add(4)
	for number := 0; number < 4; number++ {
		count := share(times, 4, number)
		go func() {
			for i := 0; i < count; i++ {
				lock.Lock()
				counter++
				lock.Unlock()
			}
			group.Done()
		}()
	}
	group.Wait()
	took := time.Since(begin)
	if counter != times {
		panic("a wrong count")
	}
	return took
}

func rwlock(t Task, times int) time.Duration {
	var lock sync.RWMutex
	counter := 0
	return timed(times, func() {
		lock.Lock()
		counter++
		lock.Unlock()
	})
}

// Of the standard library: a channel with room for one.
func semaphore(t Task, times int) time.Duration {
	one := make(chan struct{}, 1)
	return timed(times, func() {
		one <- struct{}{}
		<-one
	})
}

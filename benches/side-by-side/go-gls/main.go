// The storage of goroutines, as packages add it to Go. Each package is a build tag; the other files say how it does what
// the rows ask for, and each.go comes from ../go.
package main

import (
	"sync"
	"time"
)

// What a package has to say:
//
//	enter(f func())        runs f where the package's storage is
//	set(value int)
//	get() int
//	id() int64
//	atExit(f func())       registers what is done when the goroutine ends, in a function that runs in `enter`

var rows = map[string]func(t Task, times int) time.Duration{
	"id":           inside(func() { id() }),
	"get":          inside(func() { get() }),
	"set":          inside(func() { set(8) }),
	"spawn-stored": spawnStored,
	"load":         load,
	"load-workers": load,
}

func main() {
	t := task()
	run, ok := rows[t.Row]
	if !ok {
		panic("there is no row " + t.Row)
	}
	tell(each(t, func(times int) time.Duration { return run(t, times) }))
}

func inside(f func()) func(Task, int) time.Duration {
	return func(t Task, times int) time.Duration {
		took := make(chan time.Duration)
		go enter(func() {
			set(7)
			took <- timed(times, f)
		})
		return <-took
	}
}

func spawnStored(t Task, times int) time.Duration {
	done := make(chan struct{})
	return timed(times, func() {
		go func() {
			enter(func() {
				set(7)
				defer atExit(func() {})()
			})
			done <- struct{}{}
		}()
		<-done
	})
}

func fortyOperations() {
	for i := 4; i < 44; i++ {
		if i%4 == 0 {
			set(i)
		} else if read := get(); read >= i || read < i-3 {
			panic("a wrong value")
		}
	}
}

func load(t Task, times int) time.Duration {
	return timed(times, func() {
		var group sync.WaitGroup
		group.Add(t.Size)
		for i := 0; i < t.Size; i++ {
			go func() {
				enter(fortyOperations)
				group.Done()
			}()
		}
		group.Wait()
	})
}

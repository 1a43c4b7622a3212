// How a program of another language is asked to measure:
//
//	PROGRAM measure ROW PEER WORKERS SIZE MILLISECONDS FIRST
//
// It prints a JSON list of the values that the row describes, in nanoseconds where they are times.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// Task is what is to be done.
type Task struct {
	Row     string
	Workers int
	Size    int
	First   int
	Goal    time.Duration
}

// task reads the arguments.
func task() Task {
	number := func(index int) int {
		value, err := strconv.Atoi(os.Args[index])
		if err != nil {
			panic(err)
		}
		return value
	}
	t := Task{
		Row:     os.Args[2],
		Workers: number(4),
		Size:    number(5),
		Goal:    time.Duration(number(6)) * time.Millisecond,
		First:   number(7),
	}
	runtime.GOMAXPROCS(t.Workers)
	return t
}

// each tells how many nanoseconds a single one takes, as `each` of src/measure.rs does.
func each(t Task, run func(times int) time.Duration) float64 {
	times := t.First
	took := run(times)
	for took < t.Goal/4 {
		times *= 10
		took = run(times)
	}
	if took >= 20*t.Goal {
		return float64(took) / float64(times)
	}
	times = int(float64(times) * float64(t.Goal) / float64(took))
	if times < t.First {
		times = t.First
	}
	return float64(run(times)) / float64(times)
}

// timed tells how long it takes to do it so many times.
func timed(times int, f func()) time.Duration {
	begin := time.Now()
	for i := 0; i < times; i++ {
		f()
	}
	return time.Since(begin)
}

func tell(values ...float64) {
	text, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

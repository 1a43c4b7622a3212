//go:build mgkanani_gls

package main

import "github.com/mgkanani/gls"

// It keeps one value a goroutine, without a key.
func enter(f func()) {
	f()
	gls.Del()
}

func set(value int) { gls.Set(value) }

func get() int {
	value, ok := gls.Get().(int)
	if !ok {
		return 0
	}
	return value
}

func id() int64 { panic("it has no id") }

func atExit(f func()) func() { return f }

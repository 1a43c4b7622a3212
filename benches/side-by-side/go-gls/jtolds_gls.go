//go:build jtolds_gls

package main

import "github.com/jtolds/gls"

var manager = gls.NewContextManager()

// Its values are for what is called below, so a value that changes is behind a pointer.
func enter(f func()) { manager.SetValues(gls.Values{"slot": new(int)}, f) }

func slot() *int {
	value, _ := manager.GetValue("slot")
	return value.(*int)
}

func set(value int) { *slot() = value }

func get() int { return *slot() }

func id() int64 { panic("it has no id") }

func atExit(f func()) func() { return f }

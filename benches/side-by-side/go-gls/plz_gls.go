//go:build plz_gls

package main

import "github.com/v2pro/plz/gls"

func enter(f func()) { gls.WithEmptyGls(f)() }

func set(value int) { gls.Set("slot", value) }

func get() int {
	value, ok := gls.Get("slot").(int)
	if !ok {
		return 0
	}
	return value
}

func id() int64 { return gls.GoID() }

func atExit(f func()) func() { return f }

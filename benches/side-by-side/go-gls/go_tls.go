//go:build go_tls

package main

import tls "github.com/huandu/go-tls"

func enter(f func()) { f() }

func set(value int) { tls.Set("slot", tls.MakeData(value)) }

func get() int {
	data, ok := tls.Get("slot")
	if !ok {
		return 0
	}
	return data.Value().(int)
}

func id() int64 { return tls.ID() }

func atExit(f func()) func() {
	tls.AtExit(f)
	return func() {}
}

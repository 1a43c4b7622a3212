package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

// serve tells its address, and serves for ever. GOMAXPROCS in the environment says on how many threads.
func serve(kind string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	if kind == "http" {
		panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello\n")
		})))
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer connection.Close()
			buffer := make([]byte, 4096)
			for {
				length, err := connection.Read(buffer)
				if err != nil {
					return
				}
				if _, err := connection.Write(buffer[:length]); err != nil {
					return
				}
			}
		}()
	}
}

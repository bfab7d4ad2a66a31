package app

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDefaultConnections(t *testing.T) {
	for files, want := range map[uint64]int{0: 20000, 1: 1, 1024: 341, 60_000: 20000, 1 << 30: 20000, 1<<64 - 1: 20000} {
		if got := defaultConnections(files); got != want {
			t.Errorf("%d files: got %d, want %d", files, got, want)
		}
	}
}

// What happens often is told now and then, and nothing of it is left out in the end.
func TestOccasional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &occasional{every: time.Second}
		if n := o.add(); n != 1 {
			t.Errorf("the first is told as %d", n)
		}
		for range 9 {
			if n := o.add(); n != 0 {
				t.Errorf("one within a second is told, as %d", n)
			}
		}
		time.Sleep(time.Second)
		if n := o.add(); n != 10 {
			t.Errorf("later it is told as %d, want 10", n)
		}
	})
}

// What any client can bring about is not in the log, but a panic is.
func TestErrorLog(t *testing.T) {
	var log strings.Builder
	e := errorLog{slog.New(slog.NewTextHandler(&log, nil))}
	for line, told := range map[string]bool{
		"http: TLS handshake error from 127.0.0.1:1: EOF":                      false,
		"http2: server: error reading preface from client 127.0.0.1:1: x":      false,
		"http2: server connection error from 127.0.0.1:1: PROTOCOL_ERROR":      false,
		"timeout waiting for PING response":                                    false,
		"http2: panic serving 127.0.0.1:1: x":                                  true,
		"http: panic serving 127.0.0.1:1: x":                                   true,
		"http: Accept error: accept tcp: too many open files; retrying in 5ms": true,
	} {
		log.Reset()
		if _, err := e.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), line); got != told {
			t.Errorf("%s: it is told: %v", line, got)
		}
	}
}

package app

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// The delay is for services that others can reach, unless it is given.
func TestShutdownDelay(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as terminals are
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	local, local6 := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, &net.TCPAddr{IP: net.IPv6loopback, Port: 80}
	all, other := &net.TCPAddr{IP: net.IPv6unspecified, Port: 80}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	for _, tt := range []struct {
		args      []string
		log       io.Writer
		listeners []net.Addr
		want      time.Duration
	}{
		{nil, w, []net.Addr{all}, 5 * time.Second},
		{nil, w, []net.Addr{other, local}, 5 * time.Second},
		{nil, w, []net.Addr{local, all}, 5 * time.Second},
		{nil, w, []net.Addr{local}, 0},
		{nil, w, []net.Addr{local, local6}, 0},
		{nil, null, []net.Addr{all}, 0},
		{nil, &strings.Builder{}, []net.Addr{all}, 0},
		{[]string{"--shutdown-delay=1s"}, w, []net.Addr{local}, time.Second},
		{[]string{"--shutdown-delay=1s"}, null, []net.Addr{all}, time.Second},
		{[]string{"--shutdown-delay=0s"}, w, []net.Addr{all}, 0},
	} {
		c, err := parse(tt.args, func(string) string { return "" }, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.(*bothCommand).shutdownDelay(tt.log, tt.listeners...); got != tt.want {
			t.Errorf("%q, log to %T, listens on %v: got %v, want %v", tt.args, tt.log, tt.listeners, got, tt.want)
		}
	}
}

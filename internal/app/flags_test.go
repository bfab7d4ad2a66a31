package app

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// The delay is for services.
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
	for log, want := range map[io.Writer]time.Duration{w: 5 * time.Second, null: 0, &strings.Builder{}: 0} {
		if got := shutdownDelay(log); got != want {
			t.Errorf("%T: got %v, want %v", log, got, want)
		}
	}
}

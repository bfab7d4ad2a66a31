package bridge

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// Bodies are read whole, whatever length they declare, and hold what they take until it is
// released. What would be too much is refused, and holds nothing.
func TestBodyMemory(t *testing.T) {
	const most = 1 << 20
	m := &bodyMemory{most: most}
	read := func(size int, declared int64) ([]byte, func(), error) {
		body := bytes.Repeat([]byte("x"), size)
		return m.readAll(&http.Request{ContentLength: declared, Body: io.NopCloser(iotest.HalfReader(bytes.NewReader(body)))})
	}
	for _, size := range []int{0, 1, 511, 512, smallBody - 1, smallBody, smallBody + 1, 300_000} {
		for name, declared := range map[string]int64{"right": int64(size), "none": -1, "too short": int64(size / 2), "too long": int64(4 * size)} {
			got, release, err := read(size, declared)
			if err != nil || len(got) != size || m.held.Load() < int64(size-smallBody) || size < smallBody && m.held.Load() != 0 {
				t.Fatalf("%d bytes, the declared length is %s: got %d, %v; %d are held", size, name, len(got), err, m.held.Load())
			}
			if name == "right" && cap(got) > 2*size+512 {
				t.Errorf("%d bytes take %d", size, cap(got))
			}
			if release(); m.held.Load() != 0 {
				t.Fatalf("%d are held", m.held.Load())
			}
		}
	}
	_, releaseFirst, err := read(600_000, 600_000)
	if err != nil {
		t.Fatal(err)
	}
	held := m.held.Load()
	for _, declared := range []int64{600_000, -1} {
		if _, _, err := read(600_000, declared); failure.Reason(err) != "OVERLOADED" {
			t.Errorf("the second one: got %v", err)
		}
	}
	if _, release, err := read(smallBody, smallBody-1); err != nil {
		t.Errorf("a small one: %v", err)
	} else {
		release()
	}
	if _, _, err := m.readAll(&http.Request{Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))}); err != io.ErrUnexpectedEOF {
		t.Errorf("one that is cut: %v", err)
	}
	if got := m.held.Load(); got != held {
		t.Errorf("%d are held, want the %d of the first one", got, held)
	}
	releaseFirst()
	if _, release, err := read(600_000, 600_000); err != nil {
		t.Errorf("when the first one is gone: %v", err)
	} else {
		release()
	}
}

package connlimit

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2"
)

// However frames come apart when they are read, each reset is counted once, and nothing
// that only looks like one.
func TestCountResets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var wire bytes.Buffer
		wire.WriteString(http2.ClientPreface)
		f, want := http2.NewFramer(&wire, nil), 0
		for range random.IntN(20) {
			switch random.IntN(4) {
			case 0:
				want++
				_ = f.WriteRSTStream(1, http2.ErrCodeCancel)
			case 1:
				_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 3 << 24})
			case 2:
				_ = f.WriteData(1, false, bytes.Repeat([]byte{3, 0}, random.IntN(1000)))
			case 3:
				_ = f.WriteRawFrame(http2.FrameType(random.IntN(256))|16, 3, 3, nil)
			}
		}
		c, got := &grpcConn{skip: len(http2.ClientPreface)}, 0
		for b := wire.Bytes(); len(b) > 0; {
			n := 1 + random.IntN(min(len(b), 30))
			got += c.countResets(b[:n])
			b = b[n:]
		}
		if got != want {
			t.Fatalf("got %d of %d", got, want)
		}
	}
}

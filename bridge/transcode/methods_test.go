package transcode

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/descriptors"
)

// source counts how often it is asked, and takes its time.
type source struct {
	loads  atomic.Int32
	answer func() (*descriptors.Set, error)
}

func (s *source) Load(context.Context, []protoreflect.FullName, bool) (*descriptors.Set, error) {
	s.loads.Add(1)
	time.Sleep(50 * time.Millisecond)
	return s.answer()
}

// However many ask at once, and whatever comes of it, descriptors are loaded for all of them
// together.
func TestLoadedForAllAtOnce(t *testing.T) {
	for name, answer := range map[string]func() (*descriptors.Set, error){
		"fails":       func() (*descriptors.Set, error) { return nil, errors.New("fails") },
		"panics":      func() (*descriptors.Set, error) { panic("odd descriptors") },
		"nothing new": func() (*descriptors.Set, error) { return &descriptors.Set{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{answer: answer}
			exposure, err := NewExposure([]string{"*"})
			if err != nil {
				t.Fatal(err)
			}
			m := NewMethods(s, exposure, slog.New(slog.DiscardHandler))
			defer m.Close()
			atOnce := func(ask func()) {
				var all sync.WaitGroup
				for range 100 {
					all.Go(ask)
				}
				all.Wait()
			}
			atOnce(func() {
				if _, err := m.Table(t.Context()); err != nil && status.Code(err) != codes.Unavailable {
					t.Error(err)
				}
			})
			old := m.Known()
			if old == nil {
				old = newTable(&descriptors.Set{}, exposure, m.log)
				m.table.Store(old)
			}
			first := s.loads.Load()
			m.tried.Store(0)
			atOnce(func() {
				if m.Renew(t.Context(), old) != old {
					t.Error("there is another table")
				}
			})
			if again := s.loads.Load() - first; first > 3 || again > 3 {
				t.Errorf("loaded %d times, then %d", first, again)
			}
		})
	}
}

package transcode

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/descriptors"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
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

// sourceFunc is a source that is a function.
type sourceFunc func(context.Context) (*descriptors.Set, error)

func (f sourceFunc) Load(ctx context.Context, _ []protoreflect.FullName, _ bool) (*descriptors.Set, error) {
	return f(ctx)
}

func newMethods(t *testing.T, load sourceFunc) *Methods {
	t.Helper()
	exposure, err := NewExposure([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMethods(load, exposure, slog.New(slog.DiscardHandler))
	t.Cleanup(m.Close)
	return m
}

// Descriptors that a table cannot be made of do not take the program down, also where nobody
// waits for it.
func TestTableIsOdd(t *testing.T) {
	m := newMethods(t, func(context.Context) (*descriptors.Set, error) {
		return &descriptors.Set{Services: []protoreflect.ServiceDescriptor{nil}}, nil
	})
	if _, err := m.Table(t.Context()); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// Callers whose credentials are wrong do not hold up those whose are right.
func TestWrongCredentialsHoldUpNobody(t *testing.T) {
	m := newMethods(t, func(ctx context.Context) (*descriptors.Set, error) {
		if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get("authorization")) == 0 {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		return &descriptors.Set{}, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 100 {
		if _, err := m.Table(ctx); status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
	if _, err := m.Table(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer good")); err != nil {
		t.Error(err)
	}
}

// However many answers say that descriptors are old while some are being loaded, one goroutine
// waits for that.
func TestRenewalsDoNotGather(t *testing.T) {
	begun, goOn := make(chan bool, 1), make(chan bool)
	m := newMethods(t, func(context.Context) (*descriptors.Set, error) {
		begun <- true
		<-goOn
		return &descriptors.Set{}, nil
	})
	defer close(goOn)
	<-begun
	before := runtime.NumGoroutine()
	for range 1000 {
		m.tried.Store(0) // long ago
		m.RenewSoon()
	}
	if after := runtime.NumGoroutine(); after > before+10 {
		t.Errorf("%d goroutines wait", after-before)
	}
}

// What is named beside "*" is exposed, too, and takes nothing away.
func TestExposureIsAll(t *testing.T) {
	e, err := NewExposure([]string{"my.Service/Get", "*", "grpc.health.v1.Health/Watch"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		service protoreflect.FullName
		method  protoreflect.Name
		want    bool
	}{
		{"my.Service", "Get", true}, {"my.Service", "List", true}, {"my.Other", "Get", true},
		{"grpc.health.v1.Health", "Watch", true}, {"grpc.health.v1.Health", "Check", false}, {"grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", false},
	} {
		if got := e.has(tt.service, tt.method); got != tt.want {
			t.Errorf("%s/%s: %v", tt.service, tt.method, got)
		}
	}
}

// A service whose descriptors cannot be had again stays as it was, until they can, or it is
// gone.
func TestServiceFailsLater(t *testing.T) {
	files, _ := transcodetest.Compile(t, `syntax = "proto3"; message M {} service One { rpc Call(M) returns (M); } service Two { rpc Call(M) returns (M); }`)
	service := func(name protoreflect.FullName) protoreflect.ServiceDescriptor {
		d, err := files.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return d.(protoreflect.ServiceDescriptor)
	}
	one, two := service("One"), service("Two")
	failed := map[protoreflect.FullName]error{"Two": errors.New("not now")}
	var set *descriptors.Set
	m := newMethods(t, func(context.Context) (*descriptors.Set, error) { return set, nil })
	m.loads.Wait()
	m.table.Store(nil)
	for _, tt := range []struct {
		is       string
		set      descriptors.Set
		one, two bool
	}{
		{"fails at first", descriptors.Set{Services: []protoreflect.ServiceDescriptor{one}, Sum: [32]byte{1}, Failed: failed}, true, false},
		{"is there", descriptors.Set{Services: []protoreflect.ServiceDescriptor{one, two}, Sum: [32]byte{2}}, true, true},
		{"fails", descriptors.Set{Services: []protoreflect.ServiceDescriptor{one}, Sum: [32]byte{1}, Failed: failed}, true, true},
		{"fails again", descriptors.Set{Services: []protoreflect.ServiceDescriptor{one}, Sum: [32]byte{1}, Failed: failed}, true, true},
		{"fails, and another is gone", descriptors.Set{Sum: [32]byte{3}, Failed: failed}, false, true},
		{"is gone", descriptors.Set{Sum: [32]byte{3}}, false, false},
	} {
		set = &tt.set
		m.tried.Store(0)
		m.Renew(t.Context(), m.Known())
		if known := m.Known(); known.Has("/One/Call") != tt.one || known.Has("/Two/Call") != tt.two {
			t.Errorf("%s: has one %v, two %v", tt.is, known.Has("/One/Call"), known.Has("/Two/Call"))
		}
	}
}

// Where reflection wants credentials, those of a caller renew what is old: what is tried
// without any, or with wrong ones, is not in their way.
func TestCredentialsRenew(t *testing.T) {
	var version, loads atomic.Int32
	version.Store(1)
	m := newMethods(t, func(ctx context.Context) (*descriptors.Set, error) {
		loads.Add(1)
		if md, _ := metadata.FromOutgoingContext(ctx); !slices.Equal(md.Get("authorization"), []string{"Bearer good"}) {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		return &descriptors.Set{Sum: [32]byte{byte(version.Load())}}, nil
	})
	good := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer good")
	first, err := m.Table(good)
	if err != nil {
		t.Fatal(err)
	}
	tooOld := func() {
		m.loads.Wait()
		version.Add(1)
		m.tried.Store(0)
		m.loaded.Store(0)
	}
	// By its age.
	tooOld()
	if _, err := m.Table(good); err != nil {
		t.Fatal(err)
	}
	m.loads.Wait()
	second := m.Known()
	if second == first {
		t.Error("nothing is renewed by a caller's credentials")
	}
	// When something is unknown, though others try, too.
	tooOld()
	for range 100 {
		_, _ = m.Table(t.Context())
		m.RenewSoon()
		m.RenewIfOlder(t.Context(), second)
		m.loads.Wait()
	}
	if n := loads.Load(); n > 10 {
		t.Errorf("loaded %d times, mostly in vain", n)
	}
	m.Renew(t.Context(), second)
	if before := loads.Load(); m.Renew(t.Context(), second) != second || loads.Load() != before+1 {
		t.Error("wrong credentials are not tried again")
	}
	if m.Renew(good, second) == second {
		t.Error("nothing is renewed after others have tried")
	}
	// Who has none and comes often does not have the server asked each time.
	tooOld()
	before := loads.Load()
	for range 100 {
		m.Renew(t.Context(), m.Known())
	}
	if n := loads.Load() - before; n > 2*forgivenPerSecond {
		t.Errorf("loaded %d times with wrong credentials", n)
	}
}

package inproc_test

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/inproc"
)

// The ends of calls that are not the handler's doing.

// waiting is a service whose handlers wait for their client to leave, and then return
// what they like.
func waiting(handler chan<- error, err func(context.Context) error) *service {
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		handler <- ctx.Err()
		return err(ctx)
	}
	return &service{
		stream: func(_ *request, s serverStream) error { return cmp.Or(send(s, "a"), wait(s.Context())) },
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return answer("a"), wait(ctx)
		},
	}
}

// A client that leaves has that for a status, whatever the handler says.
func TestClientLeaves(t *testing.T) {
	for _, err := range []error{nil, status.Error(codes.DataLoss, "over")} {
		handler := make(chan error, 1)
		everywhere(t, waiting(handler, func(context.Context) error { return err }), func(t *testing.T, c client) {
			ctx, cancel := context.WithCancel(t.Context())
			got := c.callStream(ctx, &outcome{receive: func(string) error { cancel(); return nil }})
			if err := <-handler; err != context.Canceled || got.String() != `"a" Canceled: context canceled` {
				t.Errorf("a stream: got %s, the handler got %v", got, err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			got = c.callUnary(ctx)
			if err := <-handler; err != context.Canceled || got.String() != `Canceled: context canceled` {
				t.Errorf("got %s, the handler got %v", got, err)
			}
		})
	}
}

// No header reaches a client that has left.
func TestHeaderTooLate(t *testing.T) {
	started, handler := make(chan struct{}), make(chan error, 1)
	everywhere(t, &service{stream: func(_ *request, s serverStream) error {
		started <- struct{}{}
		<-s.Context().Done()
		_ = s.SetHeader(metadata.Pairs("x-b", "1"))
		handler <- s.SendHeader(metadata.Pairs("x-a", "1"))
		return nil
	}}, func(t *testing.T, c client) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-started
			cancel()
		}()
		got := c.callStream(ctx, &outcome{})
		if err := <-handler; err == nil || got.String() != `Canceled: context canceled` {
			t.Errorf("got %s, the handler got %v", got, err)
		}
	})
}

// Which side notices first that it is too late is not certain over a socket.
func TestTooLate(t *testing.T) {
	handler := make(chan error, 1)
	everywhere(t, waiting(handler, context.Context.Err), func(t *testing.T, c client) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if got := c.callStream(ctx, &outcome{}); status.Code(got.err) != codes.DeadlineExceeded || len(got.messages) != 1 {
			t.Errorf("a stream: got %s", got)
		}
		<-handler
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if got := c.callUnary(ctx); status.Code(got.err) != codes.DeadlineExceeded {
			t.Errorf("got %s", got)
		}
		<-handler
	})
}

// A handler has its client's deadline, or none.
func TestDeadline(t *testing.T) {
	var deadline time.Time
	var has bool
	everywhere(t, &service{stream: func(_ *request, s serverStream) error {
		deadline, has = s.Context().Deadline()
		return nil
	}}, func(t *testing.T, c client) {
		if c.callStream(t.Context(), &outcome{}); has {
			t.Errorf("a deadline of %v that the client does not have", deadline)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		want, _ := ctx.Deadline()
		if c.callStream(ctx, &outcome{}); !has || deadline.Sub(want).Abs() > 5*time.Second {
			t.Errorf("got %v, %v, want %v", deadline, has, want)
		}
	})
}

// A client that drops a stream by its context alone, and never receives again,
// must not keep the handler.
func TestClientLeavesWhileTheHandlerSends(t *testing.T) {
	ended := make(chan error, 1)
	everywhere(t, &service{stream: func(_ *request, s serverStream) error {
		for {
			if err := send(s, "a"); err != nil {
				ended <- err
				return err
			}
		}
	}}, func(t *testing.T, c client) {
		_ = c.Invoke(t.Context(), unaryMethod+"s", &testpb.Empty{}, &testpb.Empty{}) // the connection has goroutines of its own
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		got := c.callStream(ctx, &outcome{receive: func(string) error { cancel(); return nil }})
		if status.Code(got.err) != codes.Canceled {
			t.Errorf("the client got %v", got.err)
		}
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("the handler got %v", err)
		}
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+1; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
}

// A call whose context is done reaches no handler.
func TestDoneBeforeTheCall(t *testing.T) {
	service := &service{
		stream: func(*request, serverStream) error {
			t.Error("the handler of a stream runs")
			return nil
		},
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			t.Error("the handler runs")
			return nil, nil
		},
	}
	everywhere(t, service, func(t *testing.T, c client) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithTimeout(t.Context(), -1)
		defer cancel()
		for ctx, want := range map[context.Context]codes.Code{cancelled: codes.Canceled, late: codes.DeadlineExceeded} {
			if got := c.callStream(ctx, &outcome{}); status.Code(got.err) != want {
				t.Errorf("a stream: got %v, want %v", got.err, want)
			}
			if got := c.callUnary(ctx); status.Code(got.err) != want {
				t.Errorf("got %v, want %v", got.err, want)
			}
		}
	})
}

// The error of a receiver is the call's, ends the handler's sending, and is the last that
// it is asked.
func TestReceiverFails(t *testing.T) {
	mine, ended := errors.New("enough"), make(chan error, 1)
	everywhere(t, &service{stream: func(_ *request, s serverStream) error {
		for {
			if err := send(s, "a"); err != nil {
				ended <- errors.Join(err, send(s, "b"))
				return nil
			}
		}
	}}, func(t *testing.T, c client) {
		got := c.callStream(t.Context(), &outcome{receive: func(string) error { return mine }})
		if got.err != mine || len(got.messages) != 1 {
			t.Errorf("got %v", got)
		}
		if err := <-ended; err == nil {
			t.Error("the handler can send")
		}
	})
}

// The header does not wait for a message.
func TestHeaderComesFirst(t *testing.T) {
	var seen chan struct{}
	everywhere(t, &service{stream: func(_ *request, s serverStream) error {
		if err := s.SendHeader(metadata.Pairs("x-a", "1")); err != nil {
			return err
		}
		<-seen
		return send(s, "a")
	}}, func(t *testing.T, c client) {
		seen = make(chan struct{})
		if got := c.callStream(t.Context(), &outcome{begin: func() { close(seen) }}); got.String() != `header[x-a=["1"]] "a" OK` {
			t.Errorf("got %s", got)
		}
	})
}

// What a handler leaves behind finds that the call is over, and reaches no client.
func TestLeftBehind(t *testing.T) {
	for _, messages := range [][]string{nil, {"a"}} {
		released, returned, sent := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
		everywhere(t, &service{stream: func(_ *request, s serverStream) error {
			context.AfterFunc(s.Context(), func() { released <- struct{}{} })
			go func() {
				<-returned
				s.SetTrailer(metadata.Pairs("x-b", "1"))
				if s.SetHeader(metadata.Pairs("x-a", "1")) == nil || s.SendHeader(nil) == nil {
					t.Error("the header can be set")
				}
				_ = s.SendMsg(1)
				sent <- send(s, "b")
			}()
			return send(s, messages...)
		}}, func(t *testing.T, c client) {
			got := c.callStream(t.Context(), &outcome{})
			returned <- struct{}{}
			if err := <-sent; err == nil {
				t.Error("it can send")
			}
			<-released
			if !slices.Equal(got.messages, messages) || got.trailer["x-b"] != nil || got.err != nil {
				t.Errorf("got %s", got)
			}
		})
	}
}

// The context of a unary handler is done when that has returned.
func TestUnaryContextEnds(t *testing.T) {
	released := make(chan struct{}, 1)
	everywhere(t, &service{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		context.AfterFunc(ctx, func() { released <- struct{}{} })
		return answer("a"), nil
	}}, func(t *testing.T, c client) {
		if got := c.callUnary(t.Context()); got.String() != `"a" OK` {
			t.Errorf("got %s", got)
		}
		<-released
	})
}

// A context that an interceptor has made of the call's waits for its end without a
// goroutine: there would be one for each stream.
func TestContextNeedsNoGoroutine(t *testing.T) {
	type key struct{}
	conn := &inproc.Conn{}
	started := 0
	testpb.RegisterTestServiceServer(conn, &service{stream: func(_ *request, s serverStream) error {
		for _, ctx := range []context.Context{s.Context(), context.WithValue(s.Context(), key{}, 1)} {
			before := runtime.NumGoroutine()
			stop := context.AfterFunc(ctx, func() {})
			_, cancel := context.WithCancel(ctx)
			started += runtime.NumGoroutine() - before
			stop()
			cancel()
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := conn.Stream(ctx, streamMethod, &request{}, &outcome{}); err != nil {
		t.Fatal(err)
	}
	if started > 0 { // below it, some of other tests have ended
		t.Errorf("%d goroutines were started", started)
	}
}

package server

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

func TestCancel(t *testing.T) {
	f := newFixture(t, silent(begun, text("a"), &engine.Chunk{Usage: &completionv1.Usage{TotalTokens: 2}}))
	id, s := f.stream(t, t.Context(), prompt("x"))
	for range 2 { // created and the delta; the usage comes with neither
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	first, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
	if err != nil || first.GetState() != completionv1.Completion_CANCELLED || first.GetText() != "a" {
		t.Fatalf("cancel: %v, %v", first, err)
	}
	second, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
	if err != nil || !proto.Equal(first, second) {
		t.Errorf("cancel again: %v, %v", second, err)
	}
	if got, err := read(s); got != "3:CANCELLED" || err != nil {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

func TestCancelBeforeTheFirstChunk(t *testing.T) {
	f := newFixture(t, silent())
	id, s := f.stream(t, t.Context(), prompt("x"))
	if _, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); got != "1:created 2:CANCELLED" || err != nil {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

// A completion of which the journal cannot keep even the first event ends all the same.
func TestCancelWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(), func(c *Config) { c.Journal = memory.New(memory.Config{MaxCompletion: 100}) })
		id, s := f.stream(t, t.Context(), prompt("x"))
		c, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
		if err != nil || c.GetState() != completionv1.Completion_FAILED {
			t.Errorf("cancel: %v, %v", c, err)
		}
		if got, err := read(s); got != "" || reason(err) != failure.Overloaded {
			t.Errorf("the reader: %q, %v", got, err)
		}
		// Its place is free again.
		time.Sleep(time.Hour)
		if left := f.server.config.Journal.(*memory.Journal).Bytes(); left != 0 {
			t.Errorf("%d bytes are left", left)
		}
	})
}

func TestCancelByKey(t *testing.T) {
	f := newFixture(t, silent(begun, text("a")), func(c *Config) { c.Principal = principal })
	cancel := func(name, id, key string) (*completionv1.Completion, error) {
		return f.client.CancelCompletion(as(t, name), &completionv1.CancelCompletionRequest{Id: id, IdempotencyKey: key})
	}
	req := prompt("x")
	req.IdempotencyKey = "k"
	id, s := f.stream(t, as(t, "ann"), req)
	for _, tt := range []struct{ name, id, key, field string }{
		{"neither", "", "", "id"},
		{"both", id, "k", "idempotency_key"},
	} {
		_, err := cancel("ann", tt.id, tt.key)
		if reason(err) != failure.InvalidRequest || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), `"`+tt.field+`"`) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	_, another := cancel("bob", "", "k")
	_, unknown := cancel("bob", "", "nobody's")
	if reason(another) != failure.CompletionNotFound || !proto.Equal(status.Convert(another).Proto(), status.Convert(unknown).Proto()) {
		t.Errorf("%v for another's, %v for nobody's", another, unknown)
	}
	c, err := f.client.GetCompletion(as(t, "ann"), &completionv1.GetCompletionRequest{Id: id})
	if err != nil || c.GetState() != completionv1.Completion_RUNNING {
		t.Fatalf("before its key is named: %v, %v", c, err)
	}
	for range 2 {
		c, err = cancel("ann", "", "k")
		if err != nil || c.GetId() != id || c.GetState() != completionv1.Completion_CANCELLED {
			t.Errorf("got %v, %v", c, err)
		}
	}
	if got, err := read(s); err != nil || !strings.HasSuffix(got, ":CANCELLED") {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

// A key that is used is found, from then on, in whatever state its completion is.
func TestCancelByKeyBeforeStart(t *testing.T) {
	h := &hesitant{created: make(chan struct{}), goOn: make(chan struct{})}
	f := newFixture(t, silent(begun), func(c *Config) {
		h.Journal = c.Journal
		c.Journal = h
	})
	end := make(chan string, 1)
	go func() {
		req := prompt("x")
		req.IdempotencyKey = "k"
		got := ""
		s, err := f.client.StreamCompletion(t.Context(), req)
		if err == nil {
			got, err = read(s)
		}
		if err != nil {
			got += " " + err.Error()
		}
		end <- got
	}()
	<-h.created
	cancelled := make(chan error, 1)
	go func() {
		c, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{IdempotencyKey: "k"})
		if err == nil && c.GetState() != completionv1.Completion_CANCELLED {
			err = fmt.Errorf("it is %v", c)
		}
		cancelled <- err
	}()
	for asked := false; !asked; runtime.Gosched() {
		f.server.mu.Lock()
		for _, r := range f.server.runs {
			asked = r.ctx.Err() != nil
		}
		f.server.mu.Unlock()
	}
	close(h.goOn)
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
	if got := <-end; got != "1:created 2:CANCELLED" {
		t.Errorf("the reader got %s", got)
	}
}

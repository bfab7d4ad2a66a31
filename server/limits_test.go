package server

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// counted counts the calls of an engine.
func counted(calls *atomic.Int64, s script) script {
	return func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		calls.Add(1)
		return s(ctx, emit)
	}
}

// limited is a fixture with limits, and with callers that have names.
func limited(t *testing.T, eng engine.Engine, l Limits) *fixture {
	return newFixture(t, eng, func(c *Config) { c.Limits, c.Principal = l, principal })
}

// refused checks that an error is a refusal that says which limit was reached, and when
// to try again.
func refused(t *testing.T, what string, err error, want failure.Reason, limit string) {
	t.Helper()
	if got := limitOf(err); got != limit {
		t.Errorf("%s: the limit is %q, want %q", what, got, limit)
	}
	wait := false
	for _, d := range status.Convert(err).Details() {
		retry, ok := d.(*errdetails.RetryInfo)
		wait = wait || ok && retry.GetRetryDelay().AsDuration() > 0
	}
	if reason(err) != want || !wait {
		t.Errorf("%s: got %v, want %v and when to try again", what, err, want)
	}
}

// limitOf returns the limit that an error names.
func limitOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()["limit"]
		}
	}
	return ""
}

// TestRunningLimits reaches each limit of what runs, and asks for one more: that does
// not reach the engine, nobody else is harmed, and when one has ended there is room.
func TestRunningLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits Limits
		reason failure.Reason
		limit  string
		others bool // may begin some
	}{
		{"in all", Limits{Running: 2}, failure.Overloaded, "max_running", false},
		{"per principal", Limits{RunningPerPrincipal: 2}, failure.RateLimited, "max_running_per_principal", true},
		{"both", Limits{Running: 3, RunningPerPrincipal: 2}, failure.RateLimited, "max_running_per_principal", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				f := limited(t, counted(&calls, silent(begun, text("a"))), tc.limits)
				keyed := prompt("x")
				keyed.IdempotencyKey = "k"
				id, first := f.stream(t, as(t, "ann"), keyed)
				_, second := f.stream(t, as(t, "ann"), prompt("x"))
				synctest.Wait()

				_, err := f.client.CreateCompletion(as(t, "ann"), prompt("x"))
				refused(t, "a third one", err, tc.reason, tc.limit)
				_, third := f.stream(t, as(t, "ann"), prompt("x"))
				_, err = read(third)
				refused(t, "a third stream", err, tc.reason, tc.limit)
				if again, _ := f.stream(t, as(t, "ann"), keyed); again != id {
					t.Errorf("the first one's key: got %q", again)
				}
				if n := calls.Load(); n != 2 {
					t.Errorf("%d calls of the engine", n)
				}

				other, _ := f.stream(t, as(t, "bob"), prompt("x"))
				if tc.others != (other != "") {
					t.Errorf("another caller: got %q", other)
				}
				if _, err := f.client.CancelCompletion(as(t, "ann"), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
					t.Fatal(err)
				}
				if got, err := read(first); err != nil || !strings.HasSuffix(got, ":CANCELLED") {
					t.Errorf("the first: %q, %v", got, err)
				}
				if id, _ := f.stream(t, as(t, "ann"), prompt("x")); id == "" {
					t.Error("there is no room for a new one")
				}
				if e, err := second.Recv(); err != nil || e.GetCreated() == nil {
					t.Errorf("the second: %v, %v", e, err)
				}
			})
		})
	}
}

// slowJournal returns from the last Append long after readers have what it has appended.
type slowJournal struct{ journal.Journal }

func (j slowJournal) Create(ctx context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	w, holder, err := j.Journal.Create(ctx, c, o)
	return slowWriter{w}, holder, err
}

type slowWriter struct{ journal.Writer }

func (w slowWriter) Append(ctx context.Context, entries []journal.Entry) (int, error) {
	n, err := w.Writer.Append(ctx, entries)
	if hasEnd(entries) {
		time.Sleep(time.Minute)
	}
	return n, err
}

// Who knows that a completion has ended may begin the next one.
func TestPlaceIsFreeAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(begun), func(c *Config) { c.Limits.Running, c.Journal = 1, slowJournal{c.Journal} })
		for i := range 3 {
			id, s := f.stream(t, t.Context(), prompt("x"))
			if _, err := s.Recv(); err != nil {
				t.Fatalf("number %d: %v", i, err)
			}
			if _, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// fullJournal takes no completion.
type fullJournal struct{ journal.Journal }

func (fullJournal) Create(context.Context, journal.Completion, journal.Owner) (journal.Writer, journal.Completion, error) {
	return nil, journal.Completion{}, journal.ErrFull
}

// What the journal does not take, or a key stands for already, has no place among what runs.
func TestRefusedHasNoPlace(t *testing.T) {
	f := newFixture(t, silent(begun), func(c *Config) { c.Limits.Running, c.Journal = 1, fullJournal{c.Journal} })
	for range 2 {
		if _, err := f.client.CreateCompletion(t.Context(), prompt("x")); reason(err) != failure.Overloaded {
			t.Errorf("got %v", err)
		}
	}
	if n := f.server.running.all + len(f.server.running.of); n != 0 {
		t.Errorf("%d are still counted", n)
	}
	f = limited(t, silent(begun), Limits{Running: 2})
	req := prompt("x")
	req.IdempotencyKey = "k"
	for range 3 {
		f.stream(t, t.Context(), req)
	}
	if n := f.server.running.all; n != 1 {
		t.Errorf("%d are counted for one key", n)
	}
}

// TestReaderLimit has a completion read by as many as may, and one more.
func TestReaderLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := limited(t, silent(begun, text("a")), Limits{Readers: 3})
		keyed := prompt("x")
		keyed.IdempotencyKey = "k"
		id, first := f.stream(t, t.Context(), keyed)
		f.resume(t, t.Context(), id, 0)
		ctx, leave := context.WithCancel(t.Context())
		f.resume(t, ctx, id, 0)
		synctest.Wait()

		_, err := read(f.resume(t, t.Context(), id, 0))
		refused(t, "by its id", err, failure.RateLimited, "max_readers")
		_, byKey := f.stream(t, t.Context(), keyed)
		_, err = read(byKey)
		refused(t, "by its key", err, failure.RateLimited, "max_readers")
		_, err = f.client.CreateCompletion(t.Context(), keyed)
		refused(t, "whole", err, failure.RateLimited, "max_readers")
		if c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id}); err != nil || c.GetText() != "a" {
			t.Errorf("its state: %v, %v", c, err)
		}
		if other, _ := f.stream(t, t.Context(), prompt("x")); other == "" {
			t.Error("another completion is refused")
		}

		leave()
		synctest.Wait()
		instead := f.resume(t, t.Context(), id, 0)
		if e, err := instead.Recv(); err != nil || e.GetCreated() == nil {
			t.Errorf("when one has left: %v, %v", e, err)
		}
		// To end it is not to read it.
		if _, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
			t.Error(err)
		}
		if got, err := read(first); err != nil || got != "1:created 2:a 3:CANCELLED" {
			t.Errorf("the first: %q, %v", got, err)
		}
	})
}

// TestRequestLimits asks for as much as may be, and for one more.
func TestRequestLimits(t *testing.T) {
	l := &Limits{MaxTokens: 100, Messages: 2, MessageBytes: 20}
	said := func(bytes int) *completionv1.Message {
		m := &completionv1.Message{Role: "user", Content: proto.String("")}
		m.Content = proto.String(strings.Repeat("x", bytes-proto.Size(m)))
		return m
	}
	messages := func(m ...*completionv1.Message) *completionv1.CompletionRequest {
		return &completionv1.CompletionRequest{Messages: m}
	}
	for name, tc := range map[string]struct {
		req    *completionv1.CompletionRequest
		fields string
		limit  string
	}{
		"as much as may be": {&completionv1.CompletionRequest{MaxTokens: proto.Int32(100), Messages: []*completionv1.Message{said(20), said(20)}}, "", ""},
		"max_tokens":        {&completionv1.CompletionRequest{MaxTokens: proto.Int32(101), Messages: []*completionv1.Message{said(20)}}, "max_tokens", "max_tokens"},
		"the newer name":    {&completionv1.CompletionRequest{MaxCompletionTokens: proto.Int32(101), Messages: []*completionv1.Message{said(20)}}, "max_completion_tokens", "max_tokens"},
		"llama.cpp's name":  {&completionv1.CompletionRequest{ExtraJson: `{"N_predict":1}`, Messages: []*completionv1.Message{said(20)}}, "extra.N_predict", ""},
		"messages":          {messages(said(20), said(20), said(20)), "messages", "max_messages"},
		"bytes":             {messages(said(20), said(21)), "messages[1]", "max_message_bytes"},
		"bytes of a part":   {messages(&completionv1.Message{Role: "user", Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: strings.Repeat("x", 20)}}}}), "messages[0]", "max_message_bytes"},
		"prompt":            {prompt(strings.Repeat("x", 20)), "", ""},
		"bytes of a prompt": {prompt(strings.Repeat("x", 21)), "prompt", "max_message_bytes"},
	} {
		err := validate(tc.req, l)
		if got := wrongFields(err); got != tc.fields || limitOf(err) != tc.limit {
			t.Errorf("%s: got %q by %q, want %q by %q", name, got, limitOf(err), tc.fields, tc.limit)
		}
		if got := wrongFields(validate(tc.req, &Limits{})); got != "" {
			t.Errorf("%s, without limits: got %q", name, got)
		}
	}
}

// Who asks for no limit of tokens has that of the server, and a key stands for the
// request as it came.
func TestMaxTokensByDefault(t *testing.T) {
	l := &Limits{MaxTokens: 100}
	req := prompt("x")
	l.fill(req)
	newer := &completionv1.CompletionRequest{MaxCompletionTokens: proto.Int32(7)}
	l.fill(newer)
	if req.GetMaxTokens() != 100 || newer.MaxTokens != nil {
		t.Errorf("got %v and %v", req, newer)
	}

	f := limited(t, play(nil, begun, stopped), *l)
	keyed := prompt("x")
	keyed.IdempotencyKey = "k"
	first, err := f.client.CreateCompletion(t.Context(), keyed)
	if err != nil {
		t.Fatal(err)
	}
	keyed.MaxTokens = nil
	if again, err := f.client.CreateCompletion(t.Context(), keyed); err != nil || again.GetId() != first.GetId() {
		t.Errorf("the same key: %v, %v", again, err)
	}
}

// A reader that has left is not counted, even if it waits for the upstream in its
// completion's stead.
func TestLeaderThatLeftIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(begun), func(c *Config) { c.Limits.Readers = 1 })
		ctx, leave := context.WithCancel(t.Context())
		req := prompt("x")
		req.DisconnectGrace = durationpb.New(time.Minute)
		id, s := f.stream(t, ctx, req)
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		leave()
		synctest.Wait()
		if e, err := f.resume(t, t.Context(), id, 0).Recv(); err != nil || e.GetCreated() == nil {
			t.Errorf("who comes back got %v, %v", e, err)
		}
	})
}

// Package server is the gRPC face: it validates and admits requests, generates
// completions, journals their events, and lets any number of readers follow.
//
// A completion is a run of its own (run.go): what the engine has next is appended to
// the journal, in batches of what has come together. A reader, which is a call of
// StreamCompletion, ResumeCompletion or CreateCompletion, follows the journal and gets
// all that is new at once. So a slow reader holds up nobody, and coming back is only
// reading again. While a run has one reader, that one's goroutine generates, too; else
// a goroutine of the run's own does, which knows no reader.
//
// The two hear of each other by the journal alone, which may be that of several
// servers: who cancels a completion, and whether anybody still reads it.
//
// What ends what: the engine's end, a timeout, CancelCompletion, the departure
// of the last reader (after the grace) and the end of a drain each end the run;
// the run ends its journal, with one last entry; that entry ends the readers. When
// the run cannot write it, or its server is gone, the first reader to find out does.
// A reader's departure ends only its own reading. Server.Close waits for all runs, and
// grpc.Server's stop for all readers.
//
// The package knows nothing of HTTP towards clients.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// echoModel is the model that the embedded engine serves.
const echoModel = "echo"

// Config says what a Server is made of.
type Config struct {
	Echo         engine.Engine   // serves the model "echo"; required
	OpenAI       engine.Engine   // serves every other model; nil: there are no others
	DefaultModel string          // for requests that name none; default "echo" while that is all there is
	Journal      journal.Journal // required
	Log          *slog.Logger    // one line for each completion at its end; default: none

	// Principal names the caller on whose behalf a call is made: completions are
	// found, and keys shared, within one principal. Default: all callers are one.
	Principal func(context.Context) string

	// Observer is told of completions and readers. How a completion has ended has one
	// word there and in the log: finished, cancelled, abandoned (the last reader has
	// left), or the reason of its failure in lower case. Default: nobody is told.
	Observer Observer

	MaxDisconnectGrace time.Duration // the longest disconnect_grace that is granted; zero: none is
	FirstTokenTimeout  time.Duration // from the request to the upstream's first chunk; default 5 min
	IdleTimeout        time.Duration // between two chunks; default 2 min
	TotalTimeout       time.Duration // for a whole completion; default 1 h

	// MaxConnectionAge is for how long a gRPC connection gets new calls: then its client is
	// asked to make another one, by which it finds servers that are new. The calls that it
	// has go on. Default 30 min.
	MaxConnectionAge time.Duration

	Limits  Limits
	MaxBody int64 // the largest request in bytes, as JSON; default 4 MiB

	// DecodeLimit waits until a request of so many bytes may be decoded, or the context
	// is done; release is called when it has been decoded. Default: no limit.
	DecodeLimit func(ctx context.Context, bytes int) (release func(), err error)
}

// Server implements completion.v1.CompletionService. Its methods may be called
// by many goroutines at once. Close it after use.
type Server struct {
	completionv1.UnimplementedCompletionServiceServer

	config Config
	start  time.Time
	ctx    context.Context // of all runs
	cancel context.CancelCauseFunc
	ended  sync.WaitGroup // of all runs

	readers readerCount

	mu       sync.Mutex // guards all below
	runs     map[string]*run
	running  runningCount
	checks   *time.Timer // of the leaders of runs, while there are any
	draining bool
}

// New returns a server.
func New(config Config) *Server {
	config.FirstTokenTimeout = cmp.Or(config.FirstTokenTimeout, 5*time.Minute)
	config.IdleTimeout = cmp.Or(config.IdleTimeout, 2*time.Minute)
	config.TotalTimeout = cmp.Or(config.TotalTimeout, time.Hour)
	config.MaxConnectionAge = cmp.Or(config.MaxConnectionAge, 30*time.Minute)
	config.MaxBody = cmp.Or(config.MaxBody, 4<<20)
	if config.DecodeLimit == nil {
		config.DecodeLimit = func(context.Context, int) (func(), error) { return func() {}, nil }
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Principal == nil {
		config.Principal = func(context.Context) string { return "" }
	}
	if config.Observer == nil {
		config.Observer = unobserved{}
	}
	if config.DefaultModel == "" && config.OpenAI == nil {
		config.DefaultModel = echoModel
	}
	s := &Server{config: config, start: time.Now(), runs: map[string]*run{}, running: runningCount{of: map[string]int{}}}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.checks = time.AfterFunc(stall, s.checkLeaders)
	return s
}

// Drain refuses new completions from now on and waits for the running ones until
// ctx is done; those that run then fail with DRAINING. It returns when none is
// left.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		s.cancel(failure.New(failure.Draining, "the server has stopped before the completion was finished: try again"))
	})
	defer stop()
	s.ended.Wait()
}

// Close ends all completions and waits for their ends to be journaled.
func (s *Server) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Drain(ctx)
}

// begin starts the completion that req asks for, and returns its run, which the caller
// then leads; or it finds the one that its idempotency key stands for.
func (s *Server) begin(ctx context.Context, req *completionv1.CompletionRequest) (id string, led *run, err error) {
	if err := validate(req, &s.config.Limits); err != nil {
		return "", nil, err
	}
	var hash [32]byte
	if req.GetIdempotencyKey() != "" {
		hash = requestHash(req) // before anything is filled in
	}
	s.config.Limits.fill(req)
	eng, err := s.route(req)
	if err != nil {
		return "", nil, err
	}
	c := journal.Completion{
		ID:         newID(),
		Principal:  s.config.Principal(ctx),
		Key:        req.GetIdempotencyKey(),
		Request:    hash,
		Model:      req.GetModel(),
		CreateTime: time.Now(),
	}
	r := newRun(s, c, req, requestID(ctx))
	if err := s.admit(r); err != nil {
		r.end()
		if info, unknown := s.config.Journal.Find(ctx, c.Principal, c.Key); unknown == nil { // nothing new
			id, err = sameRequest(info.Completion, hash)
		}
		return id, nil, err
	}
	started := false
	defer func() {
		if !started {
			s.remove(r)
		}
	}()
	w, holder, err := s.config.Journal.Create(ctx, c, r)
	if err != nil {
		return "", nil, journalFailure(ctx, err)
	}
	if w == nil {
		id, err = sameRequest(holder, hash)
		return id, nil, err
	}
	started = true
	r.start(ctx, w, eng, req)
	return c.ID, r, nil
}

// sameRequest returns the id of the completion that an idempotency key stands for, if
// that was asked for in the same way.
func sameRequest(holder journal.Completion, request [32]byte) (id string, err error) {
	if holder.Request != request {
		return "", failure.New(failure.IdempotencyKeyReused,
			"the idempotency key was used with another request: use a new key")
	}
	return holder.ID, nil
}

// route names the model that req leaves open and returns the engine for it.
func (s *Server) route(req *completionv1.CompletionRequest) (engine.Engine, error) {
	if req.GetModel() == "" {
		if s.config.DefaultModel == "" {
			return nil, failure.Invalid("model", "name a model: this server has no default")
		}
		req.Model = s.config.DefaultModel
	}
	switch {
	case req.GetModel() == echoModel:
		return s.config.Echo, nil
	case s.config.OpenAI != nil:
		return s.config.OpenAI, nil
	}
	return nil, failure.New(failure.ModelNotFound, "no model %q: the only one here is %q", req.GetModel(), echoModel)
}

// admit counts a run in, unless the server drains or has as many as it may.
func (s *Server) admit(r *run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return failure.New(failure.Draining, "the server is stopping and begins no new completions: try again")
	}
	if err := s.running.add(&s.config.Limits, r.Principal); err != nil {
		return err
	}
	r.counted = true
	s.runs[r.ID] = r
	if len(s.runs) == 1 {
		s.checks.Reset(stall)
	}
	s.ended.Add(1)
	return nil
}

// uncount gives the place of a run to the next one: when it takes nothing more from its
// upstream, and before a reader knows its end, who may begin another one at once.
func (s *Server) uncount(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.counted {
		r.counted = false
		s.running.remove(r.Principal)
	}
}

// remove forgets a run that was admitted.
func (s *Server) remove(r *run) {
	r.end()
	s.uncount(r)
	s.mu.Lock()
	delete(s.runs, r.ID)
	s.mu.Unlock()
	s.ended.Done()
}

// stall is how long a run waits, at least, for its leader to begin a batch; twice as long
// at most.
const stall = time.Second

// checkLeaders checks all runs, and does so again and again while there are any: one
// timer is enough for all of them.
func (s *Server) checkLeaders() {
	s.mu.Lock()
	runs := slices.Collect(maps.Values(s.runs))
	if len(runs) > 0 {
		s.checks.Reset(stall)
	}
	s.mu.Unlock()
	for _, r := range runs {
		r.check()
	}
}

// owned returns a completion of the caller's. Another's is not to be told from
// one that never was, nor is one whose events are gone, unless it was the caller's.
func (s *Server) owned(ctx context.Context, id string) (journal.Info, error) {
	info, err := s.config.Journal.Get(ctx, id)
	known := err == nil || errors.Is(err, journal.ErrExpired)
	if known && info.Principal != s.config.Principal(ctx) {
		err = journal.ErrNotFound
	}
	if err != nil {
		return journal.Info{}, journalFailure(ctx, err)
	}
	return info, nil
}

// journalFailure says a journal's error in the words of the contract, unless it is that
// the caller's context is done.
func journalFailure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return failure.New(failure.CompletionNotFound, "no such completion")
	case errors.Is(err, journal.ErrExpired):
		return failure.New(failure.EventsExpired, "the completion's events are no longer kept")
	case errors.Is(err, journal.ErrAhead):
		return failure.New(failure.CursorAhead, "the completion has no event with that sequence yet")
	case errors.Is(err, journal.ErrFull):
		return failure.New(failure.Overloaded, "the server has no room for more events: try again").WithLimit("journal_memory")
	case errors.Is(err, journal.ErrTooLarge):
		return failure.New(failure.Overloaded, "the completion grew past what this server keeps of one").WithLimit("max_completion_bytes")
	case errors.Is(err, journal.ErrFenced), errors.Is(err, journal.ErrOwnerLost):
		return failure.New(failure.OwnerLost, "the server that generated the completion is gone: try again").WithCause(err)
	case ctx.Err() != nil:
		return err
	}
	return failure.New(failure.UpstreamUnavailable, "the events cannot be kept or read: try again").WithCause(err)
}

// newID returns an id that is never used again and cannot be guessed.
func newID() string { return "cmpl_" + rand.Text() }

// requestHash tells requests apart that come with the same idempotency key.
func requestHash(req *completionv1.CompletionRequest) [32]byte {
	req = proto.CloneOf(req)
	req.IdempotencyKey = ""
	// It fails only for invalid UTF-8, which neither face lets through.
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	return sha256.Sum256(b)
}

// maxRequestID is how much is kept of a caller's name for a request, in bytes.
const maxRequestID = 128

// requestID is the caller's name for the request, for the log.
func requestID(ctx context.Context) string {
	v := metadata.ValueFromIncomingContext(ctx, "x-request-id")
	if len(v) == 0 {
		return ""
	}
	if len(v[0]) > maxRequestID { // not the whole header, for as long as a run lasts
		return strings.Clone(v[0][:maxRequestID])
	}
	return v[0]
}

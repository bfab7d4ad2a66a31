package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/http1"
)

// A fault of the program ends the request that it is in, and nothing else: with a status, or
// by a cut if the response has begun. A client of a stream may come back then.

// fault logs a panic, and returns what callers are told of it. It is called while the stack
// is still that of the panic.
func fault(log *slog.Logger, p any) error {
	log.Error("panic", "cause", fmt.Sprint(p), "stack", string(debug.Stack()))
	return failure.Fault()
}

// recover answers in place of a handler that has panicked. It is to be deferred.
func (b *Bridge) recover(w *boundedWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { // no fault: the response cannot go on
		panic(p)
	}
	err := fault(b.log, p)
	w.observation.fail(err)
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	writeError(w, r, b.log, err)
	if o := w.observation; o != nil {
		o.answer.Cut = false
	}
}

// respond has a function respond to a request, as http1.Conns has it. If that panics, the
// answer says so, unless it has begun.
func (s *streams) respond(w http.ResponseWriter, r *http.Request, ctx context.Context, respond func(*http1.Context, http.ResponseWriter) (whole bool)) {
	o, openAI := observationOf(w), isOpenAI(r.URL.Path)
	s.conns.Respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) (whole bool) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			err := fault(s.log, p)
			o.fail(err)
			if begun, ok := w.(interface{ Begun() bool }); ok && !begun.Begun() {
				writeErrorAs(openAI, w, s.log, err)
				whole = true
			}
		}()
		return respond(ctx, w)
	})
}

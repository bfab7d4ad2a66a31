package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	linesPerSecond = 20 // of one kind that are written
	maxLineKinds   = 64 // that are told apart
	completionLine = "completion"
)

// NewLog returns a log whose lines name the trace that they belong to, if that is sampled,
// and which strangers cannot fill: of one kind, which is a message with its reason, only so
// many lines are written in a second, and then one that says how many were left out. All
// are written at debug, and so is the line of each completion. The log is at its end when
// flush is called.
func NewLog(next slog.Handler) (log *slog.Logger, flush func()) {
	l := &lineLimit{base: next, kinds: map[lineKind]*lineCount{}}
	return slog.New(&logHandler{next: next, limit: l}), l.flush
}

// logHandler is the slog.Handler of NewLog.
type logHandler struct {
	next  slog.Handler
	limit *lineLimit
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug && r.Message != completionLine && !h.limit.admit(ctx, &r) {
		return nil
	}
	if s := trace.SpanContextFromContext(ctx); s.IsSampled() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.next.WithAttrs(attrs), h.limit}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.next.WithGroup(name), h.limit}
}

// lineLimit counts lines by their kinds.
type lineLimit struct {
	base slog.Handler // for the lines about what is left out

	mu    sync.Mutex // guards the one below, and what is in it
	kinds map[lineKind]*lineCount
}

type lineKind struct{ message, reason string }

// lineCount is what there is of a kind in the second that is over at the time.
type lineCount struct {
	until            time.Time
	written, leftOut int
	level            slog.Level
}

// admit tells whether a line is to be written.
func (l *lineLimit) admit(ctx context.Context, r *slog.Record) bool {
	if l.base.Enabled(ctx, slog.LevelDebug) {
		return true
	}
	kind := kindOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.kinds[kind]
	if c == nil && len(l.kinds) >= maxLineKinds {
		kind = lineKind{}
		c = l.kinds[kind]
	}
	if c == nil {
		c = &lineCount{}
		l.kinds[kind] = c
	}
	now := time.Now()
	if !now.Before(c.until) {
		l.tell(kind, c)
		c.until, c.written = now.Add(time.Second), 0
	}
	if c.written < linesPerSecond {
		c.written++
		return true
	}
	if c.leftOut == 0 {
		c.level = r.Level
		time.AfterFunc(c.until.Sub(now), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.tell(kind, c)
		})
	}
	c.leftOut++
	return false
}

// tell writes how many lines of a kind were left out. It is called with the lock held.
func (l *lineLimit) tell(kind lineKind, c *lineCount) {
	if c.leftOut == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), c.level, "lines are left out", 0)
	r.AddAttrs(slog.Int("left_out", c.leftOut), slog.String("of", kind.message))
	if kind.reason != "" {
		r.AddAttrs(slog.String("reason", kind.reason))
	}
	c.leftOut = 0
	_ = l.base.Handle(context.Background(), r)
}

// flush tells of all that was left out.
func (l *lineLimit) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for kind, c := range l.kinds {
		l.tell(kind, c)
	}
}

func kindOf(r *slog.Record) lineKind {
	kind := lineKind{message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" {
			kind.reason = a.Value.String()
		}
		return a.Key != "reason"
	})
	return kind
}

package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// complaints are what OpenTelemetry's libraries say of their variables which they cannot
// use, and then go on as if those were not set: without the credentials, or with another
// endpoint. Left to themselves, they write it to standard error, with the values. Those
// may be secrets, and so may what an error quotes: only what was being read is kept.
type complaints struct {
	mu   sync.Mutex // guards the one below
	said []string
}

// listen has the libraries complain here from now on.
func (c *complaints) listen() { otel.SetLogger(logr.FromSlogHandler(c)) }

// err returns what was complained of, or nil.
func (c *complaints) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) == 0 {
		return nil
	}
	slices.Sort(c.said)
	what := strings.Join(slices.Compact(c.said), ", ")
	return errors.New("one of the variables OTEL_EXPORTER_OTLP_… cannot be used (" + what + "): headers are name=value, with commas between and %XX for what is special, and endpoints are URLs")
}

// Enabled implements slog.Handler.
func (c *complaints) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

// Handle implements slog.Handler.
func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) < 16 {
		c.said = append(c.said, r.Message)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c *complaints) WithGroup(string) slog.Handler { return c }

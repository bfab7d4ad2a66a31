package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	otherModel = "other" // the label of a model that nobody knows
	echoModel  = "echo"  // the one that this program has itself

	maxModels    = 256 // names that are labels
	maxModelName = 128 // bytes of one

	// relist is how long after one list the next one is asked for, at the earliest.
	relist = time.Minute
)

// models are the names that labels may have. A caller can ask for any model, and each
// would be a time series of its own: only names that the upstream lists are, and those
// that this program was started with.
type models struct {
	list func(context.Context) ([]string, error) // nil: there is none
	log  *slog.Logger

	mu     sync.Mutex // guards all below
	known  map[string]bool
	next   time.Time // when a list may be asked for
	cancel context.CancelFunc
	asking sync.WaitGroup
	closed bool
}

// KnowModel names a model that labels may have, unless it is "". It is called before any
// completion.
func (t *Telemetry) KnowModel(name string) {
	if name != "" { // the completion of a server that is gone has none: see newMetrics
		t.models.known[name] = true
	}
}

// ListModels says how to ask the upstream for the names of others. It is called before any
// completion.
func (t *Telemetry) ListModels(list func(context.Context) ([]string, error)) { t.models.list = list }

// label returns the label of a model. It asks for a list, in the background, if it does
// not know the name and has not asked lately.
func (m *models) label(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[name] {
		return name
	}
	if now := time.Now(); m.list != nil && !m.closed && !now.Before(m.next) {
		m.next = now.Add(relist)
		ctx, cancel := context.WithTimeout(context.Background(), relist/2)
		m.cancel = cancel
		m.asking.Go(func() {
			defer cancel()
			m.ask(ctx)
		})
	}
	return otherModel
}

func (m *models) ask(ctx context.Context) {
	names, err := m.list(ctx)
	if err != nil {
		m.log.Debug("list models for the labels of metrics", "cause", err)
		return
	}
	slices.Sort(names) // so that of too many the same ones are taken
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if len(m.known) < maxModels && len(name) <= maxModelName {
			m.known[name] = true
		}
	}
}

func (m *models) close() {
	m.mu.Lock()
	m.closed = true
	if m.cancel != nil {
		m.cancel()
	}
	m.mu.Unlock()
	m.asking.Wait()
}

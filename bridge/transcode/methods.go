package transcode

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/descriptors"
)

// How often descriptors are loaded.
const (
	loadTimeout = 10 * time.Second
	renewAfter  = 2 * time.Second        // at the soonest, when they seem to be old
	retryAfter  = 500 * time.Millisecond // when there are none
	oldAfter    = 5 * time.Minute        // even if nothing tells that they are old

	unknownAfter = 30 * time.Second // when a path is not known

	forgivenPerSecond = 5 // of those whose credentials are wrong
)

// Methods are those of a server that are exposed, as far as they are known. They are for many
// goroutines at once.
type Methods struct {
	source   descriptors.Source
	exposure Exposure
	log      *slog.Logger
	table    atomic.Pointer[Table] // nil: none was loaded yet

	loading   chan struct{} // holds one while somebody loads
	tried     atomic.Int64  // when the last load began, in Unix nanoseconds, but for those of wrong credentials
	refused   atomic.Int64  // when a load for which nobody waits last had wrong credentials, or none
	loaded    atomic.Int64  // and when the table was found to be right
	inVain    atomic.Int32  // how often since then that was found which is there
	forgiven  *rate.Limiter // of loads whose credentials are wrong, those that do not count as tried
	complaint string        // that was logged last; of the one who loads
	failed    error         // what has come of the last load, if it is the same for all; of the one who loads

	ctx    context.Context // done when nothing is loaded any more
	cancel context.CancelFunc
	loads  sync.WaitGroup // those that nobody waits for

	renewing atomic.Bool // there is one of those: many calls may find at once that they want one
}

// NewMethods returns the methods of a source, which it begins to load. They are to be closed.
func NewMethods(source descriptors.Source, exposure Exposure, log *slog.Logger) *Methods {
	m := &Methods{source: source, exposure: exposure, log: log, loading: make(chan struct{}, 1), forgiven: rate.NewLimiter(forgivenPerSecond, forgivenPerSecond)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.RenewSoon()
	return m
}

// Close stops loading.
func (m *Methods) Close() {
	m.cancel()
	m.loads.Wait()
}

// Known returns the table, or nil if none was loaded yet.
func (m *Methods) Known() *Table { return m.table.Load() }

// Table returns the table. If there is none yet, it is loaded, with the metadata that ctx
// has; the error is a status.
func (m *Methods) Table(ctx context.Context) (*Table, error) {
	t := m.table.Load()
	if t == nil {
		return m.load(ctx, nil)
	}
	if since(&m.loaded) > oldAfter {
		m.renewLater(ctx, renewAfter)
	}
	return t, nil
}

// Renew returns the table that follows one which seems to be old: it lacks a method, or a
// field of a request. It loads it unless that was done a moment ago, and returns the old one
// if there is no other.
func (m *Methods) Renew(ctx context.Context, old *Table) *Table {
	if t := m.table.Load(); t != old {
		return t
	}
	if !m.due(renewAfter) {
		return old
	}
	if t, err := m.load(ctx, old); err == nil {
		return t
	}
	return old
}

// RenewBinding is Renew for the binding of a request. It returns the old one if there is no
// other.
func (m *Methods) RenewBinding(ctx context.Context, old *Binding) *Binding {
	if t := m.Renew(ctx, old.Method.table); t != old.Method.table {
		if b := t.current(old); b != nil && b.Method.Streams == old.Method.Streams && b.Method.Supported {
			return b
		}
	}
	return old
}

// RenewIfOlder has the table loaded that follows one, if that is not of the last half
// minute, with the metadata that ctx has, and does not wait for that: a path that is not known
// may be a route of a newer server.
func (m *Methods) RenewIfOlder(ctx context.Context, old *Table) {
	if since(&m.loaded) > unknownAfter && m.table.Load() == old {
		m.renewLater(ctx, renewAfter)
	}
}

// RenewSoon has the table loaded that follows one which seems to be old, and does not wait
// for that: the server has answered UNIMPLEMENTED, or with fields that are not known. When
// there is nothing new each time, a while longer passes before the next one: its reflection
// may not have all that it sends.
func (m *Methods) RenewSoon() {
	m.renewLater(m.ctx, min(renewAfter<<min(m.inVain.Load(), 10), oldAfter))
}

// renewLater loads the table that follows the current one, with the metadata that ctx has.
func (m *Methods) renewLater(ctx context.Context, after time.Duration) {
	old := m.table.Load()
	if !m.due(after) || since(&m.refused) <= after || m.ctx.Err() != nil || !m.renewing.CompareAndSwap(false, true) {
		return
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	m.loads.Go(func() {
		defer m.renewing.Store(false)
		if _, err := m.load(metadata.NewOutgoingContext(m.ctx, md), old); ofCredentials(err) {
			m.refused.Store(time.Now().UnixNano())
		}
	})
}

// due tells whether the last load began so long ago.
func (m *Methods) due(after time.Duration) bool { return since(&m.tried) > after }

// since returns how long ago it was, in Unix nanoseconds.
func since(when *atomic.Int64) time.Duration { return time.Since(time.Unix(0, when.Load())) }

// load loads the table that follows an old one, or returns what has come of that if somebody
// else has begun it meanwhile: many may ask at once, and wait for each other.
func (m *Methods) load(ctx context.Context, old *Table) (*Table, error) {
	asked := time.Now().UnixNano()
	select {
	case m.loading <- struct{}{}:
		defer func() { <-m.loading }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if t := m.table.Load(); t != old {
		return t, nil
	}
	if m.tried.Load() > asked && (old != nil || m.failed != nil) {
		return old, m.failed
	}
	if old == nil && m.failed != nil && !m.due(retryAfter) { // not behind those whose credentials are wrong
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	m.failed = nil
	before := m.tried.Swap(time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	t, err := m.fetch(ctx, old)
	if err != nil {
		if err = m.refuse(ctx, err); old != nil && ofCredentials(err) && m.forgiven.Allow() { // others may have better ones
			m.tried.Store(before)
		}
		return nil, err
	}
	m.loaded.Store(time.Now().UnixNano())
	if t == old {
		m.inVain.Add(1)
		return old, nil
	}
	m.inVain.Store(0)
	m.complain(t)
	m.table.Store(t)
	return t, nil
}

// fetch loads descriptors, and makes a table of them if they are other ones than an old one
// is made of. They come from elsewhere: what cannot cope with them is not to take the bridge
// down.
func (m *Methods) fetch(ctx context.Context, old *Table) (t *Table, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the descriptors cannot be read: %v", cause)
		}
	}()
	set, err := m.source.Load(ctx, m.exposure.names(), m.exposure.all)
	switch {
	case err != nil:
		return nil, err
	case old != nil && old.set.Sum == set.Sum && sameServices(old.set.Failed, set.Failed):
		return old, nil
	case old != nil:
		set = withFailed(set, old.set)
	}
	return newTable(set, m.exposure, m.log), nil
}

func sameServices(a, b map[protoreflect.FullName]error) bool {
	return maps.EqualFunc(a, b, func(error, error) bool { return true })
}

// withFailed returns a set with those services as an old one has them whose descriptors could
// not be had this time: what was exposed does not go because the server's reflection did.
func withFailed(set, old *descriptors.Set) *descriptors.Set {
	with := *set
	with.Services = slices.Clone(set.Services)
	for _, sd := range old.Services {
		if set.Failed[sd.FullName()] != nil && !hasService(set, sd.FullName()) {
			with.Services = append(with.Services, sd)
		}
	}
	slices.SortFunc(with.Services, func(a, b protoreflect.ServiceDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return &with
}

// ofCredentials tells of a status that other credentials may have another one.
func ofCredentials(err error) bool {
	code := status.Code(err)
	return code == codes.Unauthenticated || code == codes.PermissionDenied
}

// refuse says why there are no descriptors: to callers if it is their credentials, else to
// the log.
func (m *Methods) refuse(ctx context.Context, err error) error {
	switch code := status.Code(err); {
	case ctx.Err() == context.Canceled:
		return status.FromContextError(ctx.Err()).Err()
	case ofCredentials(err):
		m.once("the server's reflection wants other credentials than those of the caller", err.Error())
		return err
	case code == codes.Unimplemented:
		m.once("the server has no reflection: give its descriptors with --descriptors", err.Error())
	default:
		m.once("fetch the server's descriptors", err.Error())
	}
	m.failed = Unreachable()
	return m.failed
}

// complain logs what is to be exposed and is not there.
func (m *Methods) complain(t *Table) {
	var missing []string
	for service, err := range t.set.Failed {
		missing = append(missing, fmt.Sprintf("%s (%v)", service, err))
	}
	for service, methods := range m.exposure.services {
		if t.set.Failed[service] != nil {
			continue
		}
		if !hasService(t.set, service) {
			missing = append(missing, string(service))
			continue
		}
		for method := range methods {
			if path := string(service) + "/" + string(method); t.byPath["/"+path] == nil {
				missing = append(missing, path)
			}
		}
	}
	if missing != nil {
		slices.Sort(missing) // for once
		m.once("not all that --expose names can be had of the server", strings.Join(missing, " "))
	}
}

func hasService(set *descriptors.Set, name protoreflect.FullName) bool {
	return slices.ContainsFunc(set.Services, func(sd protoreflect.ServiceDescriptor) bool { return sd.FullName() == name })
}

// once logs what was not logged last.
func (m *Methods) once(what, cause string) {
	if complaint := what + cause; m.complaint != complaint {
		m.complaint = complaint
		m.log.Warn(what, "cause", cause)
	}
}

// MayHave tells of a path whether it may be that of a method which is exposed, and of which
// nothing is known.
func (m *Methods) MayHave(path string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	full, name := protoreflect.FullName(service), protoreflect.Name(method)
	return ok && full.IsValid() && name.IsValid() && m.exposure.has(full, name)
}

// WithAuthorization returns a context in which descriptors are loaded with the credentials
// of a request.
func WithAuthorization(ctx context.Context, r *http.Request) context.Context {
	for _, value := range r.Header.Values("Authorization") {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	return ctx
}

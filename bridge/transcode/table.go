package transcode

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/descriptors"
	"github.com/sluice-sse/sluice/bridge/wirejson"
)

// Table are the methods of a server that are exposed, as its descriptors once had them. It
// is for many goroutines at once.
type Table struct {
	byPath   map[string]*Binding
	mux      *runtime.ServeMux // of the paths that google.api.http names
	bindings []*Binding
	rules    int // how many of google.api.http's there were
	types    *wirejson.Types
	set      *descriptors.Set

	describe  sync.Once // makes described
	described []byte    // in OpenAPI
}

// Method is one that is exposed.
type Method struct {
	Path      string // as gRPC has it
	Streams   bool   // it answers with a stream
	Supported bool   // it takes one request
	table     *Table
	desc      protoreflect.MethodDescriptor
}

func internal(service protoreflect.FullName) bool { return descriptors.Internal(service) }

// newTable returns the table of what is exposed of a set.
func newTable(set *descriptors.Set, exposure Exposure, log *slog.Logger) *Table {
	t := &Table{byPath: map[string]*Binding{}, types: wirejson.NewTypes(set), set: set, mux: newMux()}
	for _, sd := range set.Services {
		for i := range sd.Methods().Len() {
			if md := sd.Methods().Get(i); exposure.has(sd.FullName(), md.Name()) {
				t.add(md, log)
			}
		}
	}
	return t
}

// add adds a method, and the paths that it has beside its own.
func (t *Table) add(md protoreflect.MethodDescriptor, log *slog.Logger) {
	m := &Method{
		Path:      fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		Streams:   md.IsStreamingServer(),
		Supported: !md.IsStreamingClient(),
		table:     t,
		desc:      md,
	}
	own := &Binding{Method: m, HTTPMethod: http.MethodPost, Pattern: m.Path, wholeBody: true}
	t.byPath[m.Path] = own
	t.bindings = append(t.bindings, own)
	rule, _ := proto.GetExtension(md.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil || !m.Supported {
		return
	}
	for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		if t.rules++; t.rules > maxRules {
			if t.rules == maxRules+1 {
				log.Warn("routes of google.api.http are left out: there are too many", "method", m.Path)
			}
			return
		}
		b, err := newBinding(m, rule)
		if err == nil {
			err = t.mux.HandlePath(b.HTTPMethod, b.Pattern, b.found)
		}
		if err != nil {
			log.Warn("a route of google.api.http is left out", "method", m.Path, "cause", err)
			continue
		}
		t.bindings = append(t.bindings, b)
	}
}

// maxRules is how many rules of google.api.http are looked at: to add one to the mux takes
// time in proportion to how many there are, and so does a request that is for none of them.
const maxRules = 5000

// match is what has come of looking for a request's binding.
type match struct {
	binding *Binding
	params  map[string]string
	err     error
}

type matchKey struct{}

// newMux returns a mux of the gateway's whose handlers only tell that they were found.
func newMux() *runtime.ServeMux {
	return runtime.NewServeMux(
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, r *http.Request, err error) {
			r.Context().Value(matchKey{}).(*match).err = err
		}),
		runtime.WithRoutingErrorHandler(func(context.Context, *runtime.ServeMux, runtime.Marshaler, http.ResponseWriter, *http.Request, int) {}),
	)
}

// found is the handler of a binding.
func (b *Binding) found(_ http.ResponseWriter, r *http.Request, params map[string]string) {
	m := r.Context().Value(matchKey{}).(*match)
	m.binding, m.params = b, params
	for _, v := range b.variables {
		params[v.field] = v.value(params[v.field])
	}
}

// Has tells whether there is a method that has a path (see Path) as its own.
func (t *Table) Has(path string) bool { return t.byPath[path] != nil }

// Find returns the binding of a request, and what its path holds, or nil if there is none. A
// HEAD has that of a GET. It returns an error for a path that cannot be read.
func (t *Table) Find(r *http.Request) (b *Binding, params map[string]string, err error) {
	if b := t.byPath[Path(r)]; b != nil && r.Method == http.MethodPost {
		return b, nil, nil
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	m := t.find(r, method)
	return m.binding, m.params, m.err
}

func (t *Table) find(r *http.Request, method string) *match {
	m := &match{}
	as := r.WithContext(context.WithValue(r.Context(), matchKey{}, m))
	as.Method, as.URL = method, &url.URL{Path: Path(r)} // which the mux does not decode
	t.mux.ServeHTTP(nil, as)
	return m
}

// Allowed lists the HTTP methods of a path, for the Allow header of a 405; "": there are none.
func (t *Table) Allowed(r *http.Request) string {
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if m := t.find(r, method); m.binding != nil || method == http.MethodPost && t.Has(Path(r)) {
			allowed = append(allowed, method)
		}
	}
	if slices.Contains(allowed, "GET") {
		allowed = append(allowed, "HEAD")
	}
	return strings.Join(allowed, ", ")
}

// current returns the binding of this table that stands for one of another: the same
// method's, with the same rule. It returns nil if there is none.
func (t *Table) current(of *Binding) *Binding {
	for _, b := range t.bindings {
		if b.Method.Path == of.Method.Path && b.Pattern == of.Pattern && b.HTTPMethod == of.HTTPMethod {
			return b
		}
	}
	return nil
}

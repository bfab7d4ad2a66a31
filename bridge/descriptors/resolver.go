package descriptors

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	lookUpTimeout = 2 * time.Second // for a type that turns up in a stream, which waits
	forget        = time.Minute     // how long what was not found is not looked up again
	maxLookedUp   = 1000            // how many types are kept that no service names, and how many that were not found

	maxName = 1 << 10 // the longest name that is looked up

	// How many bytes the descriptors have that are kept of those types: each comes with all
	// that its file imports.
	maxLookedUpSize = 16 << 20

	// How often types are looked up, for clients name them, too.
	lookUpsPerSecond = 10
	lookUpBurst      = 200
)

// lookUp finds a message type elsewhere, and all that come with it, whose descriptors have
// so many bytes; nil: there is nowhere else.
type lookUp func(ctx context.Context, name protoreflect.FullName) (types *dynamicpb.Types, size int, err error)

// resolver finds types among those of a set, those that are linked in, and elsewhere. It
// implements wirejson.Resolver, and what protojson wants.
type resolver struct {
	types  *dynamicpb.Types
	lookUp lookUp

	flight singleflight.Group
	rate   *rate.Limiter // of looking up

	mu      sync.Mutex // guards all below
	more    []*dynamicpb.Types
	size    int                                                // of the descriptors of more, in bytes
	found   map[protoreflect.FullName]protoreflect.MessageType // those of more that were asked for
	missing map[protoreflect.FullName]time.Time                // when those were not found
}

func newResolver(types *dynamicpb.Types, lookUp lookUp) *resolver {
	return &resolver{
		types:   types,
		lookUp:  lookUp,
		rate:    rate.NewLimiter(lookUpsPerSecond, lookUpBurst),
		found:   map[protoreflect.FullName]protoreflect.MessageType{},
		missing: map[protoreflect.FullName]time.Time{},
	}
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (r *resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return r.FindMessageByName(protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:]))
}

// FindMessageByName implements protoregistry.MessageTypeResolver.
func (r *resolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if known, err := r.types.FindMessageByName(name); err == nil {
		return known, nil
	}
	if known, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
		return known, nil
	}
	if r.lookUp == nil || len(name) > maxName || !name.IsValid() {
		return nil, protoregistry.NotFound
	}
	// Not the rest of a URL, which the name would hold, too.
	return r.findElsewhere(protoreflect.FullName(strings.Clone(string(name))))
}

// findElsewhere looks a type up, or knows what came of that.
func (r *resolver) findElsewhere(name protoreflect.FullName) (protoreflect.MessageType, error) {
	known, asked := r.lookedUp(name)
	if !asked {
		found, _, _ := r.flight.Do(string(name), func() (any, error) {
			if known, asked := r.lookedUp(name); asked { // by the flight before
				return known, nil
			}
			if !r.rate.Allow() {
				return protoreflect.MessageType(nil), nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), lookUpTimeout)
			defer cancel()
			types, size, _ := r.lookUp(ctx, name)
			return r.keep(name, types, size), nil
		})
		known, _ = found.(protoreflect.MessageType)
	}
	if known == nil {
		return nil, protoregistry.NotFound
	}
	return known, nil
}

// lookedUp returns what has come of looking a type up, nil if it was not found, and whether
// it is not to be looked up again.
func (r *resolver) lookedUp(name protoreflect.FullName) (known protoreflect.MessageType, asked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.found[name]; known != nil {
		return known, true
	}
	if len(r.found) >= maxLookedUp {
		return nil, true
	}
	for _, types := range r.more {
		if known, err := types.FindMessageByName(name); err == nil {
			r.found[name] = known
			return known, true
		}
	}
	if r.size > maxLookedUpSize {
		return nil, true
	}
	at, ok := r.missing[name]
	return nil, ok && time.Since(at) <= forget
}

// keep notes what has come of looking a type up. What was found is kept for as long as the
// set is: others keep what they make of it, and would make it again of the same type found
// again.
func (r *resolver) keep(name protoreflect.FullName, types *dynamicpb.Types, size int) protoreflect.MessageType {
	r.mu.Lock()
	defer r.mu.Unlock()
	if types != nil {
		if known, err := types.FindMessageByName(name); err == nil {
			r.more = append(r.more, types)
			r.size += size
			r.found[name] = known
			return known
		}
	}
	if len(r.missing) >= maxLookedUp {
		clear(r.missing)
	}
	r.missing[name] = time.Now()
	return nil
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (r *resolver) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return r.types.FindExtensionByName(name)
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (r *resolver) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return r.types.FindExtensionByNumber(message, number)
}

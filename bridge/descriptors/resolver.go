package descriptors

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	lookUpTimeout = 2 * time.Second // for a type that turns up in a stream, which waits
	forget        = time.Minute     // how long what was not found is not looked up again
	maxLookedUp   = 1000            // how many types are kept that no service names
)

// lookUp finds a message type elsewhere; nil: there is nowhere else.
type lookUp func(ctx context.Context, name protoreflect.FullName) (protoreflect.MessageType, error)

// resolver finds types among those of a set, those that are linked in, and elsewhere. It
// implements wirejson.Resolver, and what protojson wants.
type resolver struct {
	types  *dynamicpb.Types
	lookUp lookUp

	flight singleflight.Group

	mu    sync.Mutex // guards all below
	found map[protoreflect.FullName]lookedUp
}

// lookedUp is what has come of looking a type up.
type lookedUp struct {
	message protoreflect.MessageType // nil: it was not found
	at      time.Time
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
	if r.lookUp == nil || !name.IsValid() {
		return nil, protoregistry.NotFound
	}
	return r.findElsewhere(name)
}

// findElsewhere looks a type up, or knows what came of that.
func (r *resolver) findElsewhere(name protoreflect.FullName) (protoreflect.MessageType, error) {
	r.mu.Lock()
	known, ok := r.found[name]
	r.mu.Unlock()
	if !ok || known.message == nil && time.Since(known.at) > forget {
		found, _, _ := r.flight.Do(string(name), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.Background(), lookUpTimeout)
			defer cancel()
			message, _ := r.lookUp(ctx, name)
			return r.keep(name, message), nil
		})
		known = found.(lookedUp)
	}
	if known.message == nil {
		return nil, protoregistry.NotFound
	}
	return known.message, nil
}

// keep notes what has come of looking a type up.
func (r *resolver) keep(name protoreflect.FullName, message protoreflect.MessageType) lookedUp {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found == nil || len(r.found) >= maxLookedUp {
		r.found = map[protoreflect.FullName]lookedUp{}
	}
	r.found[name] = lookedUp{message, time.Now()}
	return r.found[name]
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (r *resolver) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return r.types.FindExtensionByName(name)
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (r *resolver) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return r.types.FindExtensionByNumber(message, number)
}

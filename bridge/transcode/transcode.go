// Package transcode serves any gRPC method as JSON and server-sent events, with nothing
// generated: it makes a method's request of an HTTP request, and what an HTTP client gets of
// the method's messages, headers, trailers and status.
//
// Methods are the methods of a server that are exposed. They have a Table, made of
// descriptors (package descriptors), which finds the Binding of a request: by its method's
// own path, POST /my.pkg.Service/Method, or by a path that google.api.http gives it. A
// Binding makes the request message; an Encoder makes server-sent events of what a
// server-streaming method answers, without decoding it (package wirejson), and an Answer JSON
// of what a unary one does.
//
// A stream is
//
//	event: message
//	data: {"text":"one of the method's messages"}
//
// any number of times, and then one of
//
//	event: finished
//	data: {"trailers":{"name":["value"]}}
//
//	event: error
//	data: {"error":{"code":503,"status":"UNAVAILABLE","message":"…","details":[]}}
//
// A Table does not change. Another one is made when it turns out to be old: Methods.Renew says
// when. What a stream has begun with goes on with the newer one.
//
// Paths, query parameters and statuses are as grpc-gateway has them, by its own code.
package transcode

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Exposure says which methods are exposed: services or methods by their names, or with "*"
// all of a server's, but for reflection, health and channelz. The zero one exposes nothing.
type Exposure struct {
	all      bool
	services map[protoreflect.FullName]map[protoreflect.Name]bool // nil: all methods
}

// NewExposure returns what the arguments of --expose say: my.pkg.Service,
// my.pkg.Service/Method, or *.
func NewExposure(names []string) (Exposure, error) {
	e := Exposure{services: map[protoreflect.FullName]map[protoreflect.Name]bool{}}
	for _, name := range names {
		if name == "*" {
			e.all = true
			continue
		}
		service, method, one := strings.Cut(strings.TrimPrefix(name, "/"), "/")
		full := protoreflect.FullName(service)
		if !full.IsValid() || one && !protoreflect.Name(method).IsValid() {
			return e, fmt.Errorf("expose %q: write my.pkg.Service, my.pkg.Service/Method or *", name)
		}
		methods, before := e.services[full]
		switch {
		case !one:
			e.services[full] = nil
		case !before:
			e.services[full] = map[protoreflect.Name]bool{protoreflect.Name(method): true}
		case methods != nil:
			methods[protoreflect.Name(method)] = true
		}
	}
	return e, nil
}

// Any tells whether something is exposed.
func (e Exposure) Any() bool { return e.all || len(e.services) > 0 }

// names are the services that are exposed by their names.
func (e Exposure) names() []protoreflect.FullName {
	var names []protoreflect.FullName
	for name := range e.services {
		names = append(names, name)
	}
	return names
}

// has tells whether a method is exposed, if there is one of this name.
func (e Exposure) has(service protoreflect.FullName, method protoreflect.Name) bool {
	if e.all && !internal(service) {
		return true
	}
	methods, ok := e.services[service]
	return ok && (methods == nil || methods[method])
}

package openai

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// OpenAI's two names for the limit of tokens. Its reasoning models take only the newer
// one; Mistral and older versions of Azure only the older one.
const (
	maxTokens           = "max_tokens"
	maxCompletionTokens = "max_completion_tokens"
)

// dialect is how an upstream wants the requests for one of its models, as far as it
// differs from what the caller sent. The zero value is no difference.
type dialect struct {
	limitName       string // of the limit of tokens; empty: the name that the caller used
	noStreamOptions bool   // it has no stream_options: Mistral, with 422 (openai/openai-agents-python#442); older Fireworks (FlowiseAI/Flowise#2866) and Azure (openai/openai-python#1469)
}

// limitNameFor returns the name under which a request's limit of tokens is sent, or ""
// if it has none. Legacy completions have only the older name.
func (d dialect) limitNameFor(req *completionv1.CompletionRequest) string {
	switch {
	case req.MaxTokens == nil && req.MaxCompletionTokens == nil:
		return ""
	case req.Prompt != nil:
		return maxTokens
	case d.limitName != "":
		return d.limitName
	case req.MaxTokens != nil:
		return maxTokens
	}
	return maxCompletionTokens
}

// negotiate sends a request and returns the response. If the upstream rejects only the
// name of the limit of tokens, or our stream_options, the request is sent again without
// the fault, once for each of the two: nothing was generated, or paid for. The dialect
// that worked is remembered for the model.
func (e *Engine) negotiate(ctx context.Context, req *completionv1.CompletionRequest) (*http.Response, error) {
	key, retrier := dialectKey{req.GetModel(), req.Prompt != nil}, e.newRetrier()
	known := e.dialects.get(key)
	d, firstErr := known, error(nil) // firstErr is of the limit under its first name
	for {
		res, err := retrier.send(ctx, req, d)
		if err == nil && d != known {
			e.dialects.put(key, d)
		}
		var upstream *upstreamError
		if !errors.As(err, &upstream) {
			return res, err
		}
		upstream.parse()
		name := d.limitNameFor(req)
		switch {
		case !d.noStreamOptions && upstream.rejectsStreamOptions():
			d.noStreamOptions = true
		case req.Prompt == nil && name != "" && upstream.rejectsName(name):
			if firstErr != nil {
				return nil, firstErr // it takes neither; the caller knows this one
			}
			firstErr = err
			d.limitName = otherLimitName(name)
		default:
			return nil, err
		}
	}
}

func otherLimitName(name string) string {
	if name == maxTokens {
		return maxCompletionTokens
	}
	return maxTokens
}

// rejectsStreamOptions tells whether it is our stream_options that are rejected.
// Without them, all that a caller loses is the usage.
func (u *upstreamError) rejectsStreamOptions() bool {
	named := slices.ContainsFunc(u.parameters(), func(p suspect) bool { return strings.HasPrefix(p.path, "stream_options") })
	return u.isInvalidRequest() && (named || strings.Contains(u.searchText(), "stream_options"))
}

// rejectsName tells whether it is the name of a parameter that is rejected, and not its
// value: under another name, a server that ignores unknown ones would generate without
// a limit.
func (u *upstreamError) rejectsName(name string) bool {
	return u.isInvalidRequest() && slices.ContainsFunc(u.parameters(), func(p suspect) bool { return p.unknown && requestInfo{}.fieldOf(p.path) == name })
}

func (u *upstreamError) isInvalidRequest() bool {
	return u.status == http.StatusBadRequest || u.status == http.StatusUnprocessableEntity
}

// dialectKey is what a dialect applies to. An upstream's two paths may differ.
type dialectKey struct {
	model  string
	legacy bool
}

// maxDialects limits how many dialects are remembered, for callers name the models.
const maxDialects = 1000

// dialects remembers the dialects that differ from the zero value. The zero dialects is
// ready to use, by many goroutines at once.
type dialects struct {
	mu    sync.Mutex // guards known
	known map[dialectKey]dialect
}

func (s *dialects) get(key dialectKey) dialect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key]
}

// put remembers a dialect. If there are too many it forgets the others: finding one
// again costs one rejected request.
func (s *dialects) put(key dialectKey, d dialect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxDialects {
		s.known = make(map[dialectKey]dialect)
	}
	s.known[key] = d
}

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

// OpenAI's two names for the most tokens to generate. Its models that reason take
// the newer one only; Mistral and Azure's older versions take the older one only.
const (
	maxTokens           = "max_tokens"
	maxCompletionTokens = "max_completion_tokens"
)

// dialect is what an upstream takes otherwise for one of its models, as it said
// itself. The zero value is what the caller sends.
type dialect struct {
	limit           string // the name that it takes for the most tokens; empty: the caller's
	noStreamOptions bool   // it has none: Mistral, with 422 (openai/openai-agents-python#442); Fireworks (FlowiseAI/Flowise#2866), Azure (openai/openai-python#1469), older
}

// limitOf returns under which name the most tokens of a request are sent, or ""
// when it has none. Legacy completions have only the older name.
func (d dialect) limitOf(req *completionv1.CompletionRequest) string {
	switch {
	case req.MaxTokens == nil && req.MaxCompletionTokens == nil:
		return ""
	case req.Prompt != nil:
		return maxTokens
	case d.limit != "":
		return d.limit
	case req.MaxTokens != nil:
		return maxTokens
	}
	return maxCompletionTokens
}

// ask sends a request and returns the answer. Where the upstream refuses it only
// for the name of the most tokens, or for our stream_options, the request is sent
// once more for each of these without the fault: nothing was generated, nor paid.
// What helped is remembered for the model.
func (e *Engine) ask(ctx context.Context, req *completionv1.CompletionRequest) (*http.Response, error) {
	about := subject{req.GetModel(), req.Prompt != nil}
	known := e.dialects.of(about)
	d, renamed := known, error(nil)
	for {
		res, err := e.send(ctx, req, d)
		if err == nil && d != known {
			e.dialects.learn(about, d)
		}
		var said *refusal
		if !errors.As(err, &said) {
			return res, err
		}
		said.parse()
		limit := d.limitOf(req)
		switch {
		case !d.noStreamOptions && said.refusesStreamOptions():
			d.noStreamOptions = true
		case req.Prompt == nil && limit != "" && said.refusesName(limit):
			if renamed != nil {
				return nil, renamed // it takes neither; this one the caller knows
			}
			renamed = err
			d.limit = otherName(limit)
		default:
			return nil, err
		}
	}
}

func otherName(limit string) string {
	if limit == maxTokens {
		return maxCompletionTokens
	}
	return maxTokens
}

// refusesStreamOptions tells whether it is our stream_options that are refused. To
// be without them costs the caller no more than the usage.
func (r *refusal) refusesStreamOptions() bool {
	named := slices.ContainsFunc(r.parameters(), func(path string) bool { return strings.HasPrefix(path, "stream_options") })
	return r.isInvalid() && (named || strings.Contains(r.words(), "stream_options"))
}

// refusesName tells whether it is the name of a parameter that is refused, and not
// its value: a server that ignores names which it does not know would then generate
// without a limit.
func (r *refusal) refusesName(name string) bool {
	return r.isInvalid() && slices.ContainsFunc(r.unknownNames(), func(path string) bool { return question{}.parameter(path) == name })
}

func (r *refusal) isInvalid() bool {
	return r.status == http.StatusBadRequest || r.status == http.StatusUnprocessableEntity
}

// subject is what an upstream's dialect is about: its two paths may differ.
type subject struct {
	model  string
	legacy bool
}

// maxDialects bounds what is remembered: callers name the models.
const maxDialects = 1000

// dialects remembers what is not the default. The zero value is ready to use, by
// many goroutines at once.
type dialects struct {
	mu    sync.Mutex
	known map[subject]dialect // guarded by mu
}

func (s *dialects) of(about subject) dialect {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[about]
}

// learn remembers a dialect. When there are too many it forgets the others: to find
// one again costs a request that is refused.
func (s *dialects) learn(about subject, d dialect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxDialects {
		s.known = make(map[subject]dialect)
	}
	s.known[about] = d
}

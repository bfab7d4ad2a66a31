package openai

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

const maxCause = 2 << 10 // bytes of an upstream's words in the log

// failureOf returns what the error of a request means to callers: a *failure.Error, or
// the cause of ctx when that is done.
func (e *Engine) failureOf(ctx context.Context, err error, info requestInfo) error {
	var (
		known     *failure.Error
		upstream  *upstreamError
		transport *transportError
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &known):
		return known
	case errors.As(err, &upstream):
		upstream.parse()
		return e.failureOfUpstream(upstream, info)
	case errors.As(err, &transport) && transport.isConnectTimeout():
		return failure.New(failure.ConnectTimeout, "the upstream could not be reached in time").WithCause(e.logCause(err.Error()))
	case errors.As(err, &transport):
		return failure.New(failure.UpstreamUnavailable, "the upstream did not answer").WithCause(e.logCause(err.Error()))
	case info == (requestInfo{}):
		return failure.New(failure.UpstreamUnavailable, "the upstream's list of models cannot be read").WithCause(e.logCause(err.Error()))
	}
	return failure.New(failure.UpstreamRejected, "the request cannot be sent upstream").WithCause(e.logCause(err.Error()))
}

// failureOfUpstream returns what an upstream's error, once parsed, means to callers.
func (e *Engine) failureOfUpstream(upstream *upstreamError, info requestInfo) error {
	retryAfter := upstream.retryAfter(time.Now())
	reason, field := upstream.reason(info)
	var f *failure.Error
	switch reason {
	case failure.ContextLengthExceeded:
		f = failure.New(reason, "the request is longer than the model's context")
	case failure.ModelNotFound:
		f = failure.New(reason, "there is no model %q", info.model)
	case failure.UpstreamRateLimited:
		f = failure.New(reason, "the upstream takes no more requests for now").WithRetryAfter(retryAfter)
	case failure.UpstreamUnavailable:
		f = failure.New(reason, "the upstream is not available").WithRetryAfter(retryAfter)
	case failure.InvalidRequest:
		switch field {
		case filteredField:
			f = failure.Invalid(info.input, "the content filter of the upstream does not let it pass")
		case inputField:
			f = failure.Invalid(info.input, "the model does not take it")
		default:
			f = failure.Invalid(field, "the upstream does not accept it for this model")
		}
	default:
		f = failure.New(failure.UpstreamRejected, "the upstream does not accept the request")
	}
	return f.WithCause(e.logCause(upstream.Error()))
}

// reason returns why an upstream rejected a request, and for an INVALID_REQUEST the
// field.
func (u *upstreamError) reason(info requestInfo) (failure.Reason, string) {
	status := u.effectiveStatus()
	isCompletion := info != (requestInfo{})
	switch {
	case status == http.StatusTooManyRequests:
		return failure.UpstreamRateLimited, ""
	case status == http.StatusRequestTimeout:
		return failure.UpstreamUnavailable, ""
	case status < 400, status == http.StatusUnauthorized, status == http.StatusPaymentRequired, !isCompletion && status < 500:
		return failure.UpstreamRejected, ""
	}
	isInvalid := status == http.StatusBadRequest || status == http.StatusUnprocessableEntity
	// The names that callers give to tools and schemas may contain any phrase.
	if field := info.fieldOf(string(u.details.Param)); isInvalid && (strings.HasPrefix(field, "tool") || strings.HasPrefix(field, "response_format")) {
		return failure.InvalidRequest, field
	}
	if isCompletion {
		if p := u.findPhrase(); p != nil {
			return p.reason, p.field
		}
	}
	switch {
	case status >= 500:
		return failure.UpstreamUnavailable, ""
	case isInvalid:
		for _, p := range u.parameters() {
			if field := info.fieldOf(p.path); field != "" {
				return failure.InvalidRequest, field
			}
		}
	case status == http.StatusNotFound && u.isObject:
		return failure.ModelNotFound, ""
	}
	return failure.UpstreamRejected, ""
}

// findPhrase returns the first phrase in the error, or nil. What a server that is down
// says of keys and rates does not count.
func (u *upstreamError) findPhrase() *phrase {
	text := u.searchText()
	for i := range phrases {
		p := &phrases[i]
		isDown := u.status >= 500 && (failure.Code(p.reason) == failure.Code(failure.UpstreamRejected) || p.reason == failure.UpstreamRateLimited)
		if !isDown && p.matches(text) {
			return p
		}
	}
	return nil
}

// errorStatuses are the HTTP statuses that codes and types of errors stand for.
var errorStatuses = map[string]int{
	"invalid_request_error":   http.StatusBadRequest,
	"badrequesterror":         http.StatusBadRequest,
	"bad_request_error":       http.StatusBadRequest,
	"context_length_exceeded": http.StatusBadRequest,
	"content_filter":          http.StatusBadRequest,
	"authentication_error":    http.StatusUnauthorized,
	"invalid_api_key":         http.StatusUnauthorized,
	"permission_error":        http.StatusForbidden,
	"not_found_error":         http.StatusNotFound,
	"notfounderror":           http.StatusNotFound,
	"model_not_found":         http.StatusNotFound,
	"insufficient_quota":      http.StatusTooManyRequests,
	"too_many_requests":       http.StatusTooManyRequests,
}

// effectiveStatus returns the HTTP status of the error. For an error in an answer it is
// the one that the error would have had, by its code or type.
func (u *upstreamError) effectiveStatus() int {
	if u.status != 200 {
		return u.status
	}
	for _, t := range []jsonText{u.details.Code, u.details.Type} {
		if n, err := strconv.Atoi(string(t)); err == nil && n >= 400 && n <= 599 {
			return n
		}
		name := strings.ToLower(string(t))
		if status, ok := errorStatuses[name]; ok {
			return status
		}
		if strings.HasPrefix(name, "rate_limit") || strings.HasPrefix(name, "ratelimit") {
			return http.StatusTooManyRequests
		}
	}
	return http.StatusInternalServerError
}

// logCause returns an error for the log with the upstream's words, without the key in
// them. It wraps no other error, which would have the key.
func (e *Engine) logCause(text string) error {
	text = e.redactor.redact(text)
	if len(text) > maxCause {
		text = text[:maxCause] + " …"
	}
	return errors.New(strings.ToValidUTF8(text, "\uFFFD"))
}

package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxRetryAfter = time.Hour

// refusal is an error in an upstream's own words: an answer with a status that is
// not a success, or with status 200 an error within an answer.
type refusal struct {
	asked   string // the request's method and path; empty within an answer
	status  int
	header  http.Header
	body    []byte
	details errorDetails // by parse
	object  bool         // by parse: they stand where OpenAI has them
	delay   string       // by parse: google.rpc.RetryInfo's
}

// errorDetails is an error object as OpenAI has it; others have a number for its
// code and more than a string for its message.
type errorDetails struct {
	Message word `json:"message"`
	Type    word `json:"type"`
	Code    word `json:"code"`
	Param   word `json:"param"`
}

// word is the text of a JSON string, and any other JSON value as it stands.
type word string

// UnmarshalJSON implements json.Unmarshaler.
func (w *word) UnmarshalJSON(b []byte) error {
	var s string // stays empty for null
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*w = word(s)
	return nil
}

// isError tells whether the value of the key error says that there is one.
func isError(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`:
		return false
	}
	return true
}

// parse looks for an error object in the body and tells whether there is one:
// {"error":{…}}, {"error":"…"} as of Ollama, {"object":"error",…} as of vLLM, or a
// list that holds one, as of Gemini. Where the status says that there is an error,
// it takes {"message":…} as of Cohere and {"detail":…} as of FastAPI for one, too,
// but for what gateways and FastAPI say of a path that they do not know.
func (r *refusal) parse() bool {
	body := bytes.TrimSpace(r.body)
	if bytes.HasPrefix(body, []byte("[")) {
		var list []json.RawMessage
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			body = list[0]
		}
	}
	var found struct {
		Object word            `json:"object"`
		Error  json.RawMessage `json:"error"`
		Detail word            `json:"detail"`
		errorDetails
	}
	if json.Unmarshal(body, &found) != nil {
		return false
	}
	r.details = errorDetails{}
	switch {
	case isError(found.Error):
		r.object = true
		var inner struct {
			errorDetails
			Details  json.RawMessage `json:"details"`
			Metadata struct {
				Raw word `json:"raw"`
			} `json:"metadata"`
		}
		if json.Unmarshal(found.Error, &inner) != nil && inner.errorDetails == (errorDetails{}) {
			r.details = found.errorDetails // xAI: {"code":"…","error":"…"}
			_ = r.details.Message.UnmarshalJSON(found.Error)
			return true
		}
		r.details, r.delay = inner.errorDetails, retryInfo(inner.Details)
		if inner.Metadata.Raw != "" { // OpenRouter: what its provider said
			r.details.Message += ": " + inner.Metadata.Raw
		}
	case strings.EqualFold(string(found.Object), "error"):
		r.object = true
		r.details = found.errorDetails
	case r.status/100 == 4 && r.status != http.StatusNotFound && found.Message+found.Detail != "":
		r.details = found.errorDetails
		r.details.Message += found.Detail
	default:
		return false
	}
	return true
}

// retryInfo returns the delay of a google.rpc.RetryInfo among the details of a
// google.rpc.Status, which Gemini has instead of a header (vercel/ai#18627).
func retryInfo(details json.RawMessage) string {
	var list []struct {
		RetryDelay string `json:"retryDelay"`
	}
	_ = json.Unmarshal(details, &list)
	for _, d := range list {
		if d.RetryDelay != "" {
			return d.RetryDelay
		}
	}
	return ""
}

// Error returns the upstream's words, which are not for callers.
func (r *refusal) Error() string {
	d := &r.details
	switch {
	case r.object:
		return fmt.Sprintf("the upstream answered %d: %s (type %q, code %q)", r.status, d.Message, d.Type, d.Code)
	case r.status/100 == 3:
		return fmt.Sprintf("the upstream answered %d to %s and points to %q", r.status, r.asked, r.header.Get("Location"))
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed: // is the base URL right?
		return fmt.Sprintf("the upstream answered %d to %s: %s", r.status, r.asked, bytes.TrimSpace(r.body))
	}
	return fmt.Sprintf("the upstream answered %d: %s", r.status, bytes.TrimSpace(r.body))
}

// words returns what the upstream said, in lower case. A page is no words, and what
// pydantic repeats of the request (vLLM) is the caller's.
func (r *refusal) words() string {
	d, words := &r.details, ""
	switch {
	case *d != (errorDetails{}):
		words = strings.ToLower(string(d.Code + " " + d.Type + " " + d.Message))
	case r.status/100 == 4 && !bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<")):
		words = strings.ToLower(string(r.body)) // plain text, or JSON that was cut short
	}
	return withoutInput(words)
}

// withoutInput returns words up to where pydantic repeats the request.
func withoutInput(words string) string {
	words, _, _ = strings.Cut(words, "'input':")
	words, _, _ = strings.Cut(words, `"input":`)
	return words
}

// parameters returns what the upstream may mean as the parameters that it does not
// take, the surest first.
func (r *refusal) parameters() []string {
	paths := append([]string{string(r.details.Param)}, locations(r.details.Message, "")...)
	for _, f := range paramForms() {
		paths = append(paths, nameIn(f.form, r.sentence()))
	}
	return paths
}

// unknownNames returns what the upstream may mean as names of parameters that it
// does not know.
func (r *refusal) unknownNames() []string {
	names := locations(r.details.Message, "extra_forbidden")
	if r.details.Code == "unsupported_parameter" || r.details.Code == "unknown_parameter" {
		names = append(names, string(r.details.Param))
	}
	for _, f := range paramForms() {
		if f.name {
			names = append(names, nameIn(f.form, r.sentence()))
		}
	}
	return names
}

// sentence returns the upstream's message in lower case, or all that it said.
func (r *refusal) sentence() string {
	if r.details.Message == "" {
		return r.words()
	}
	return withoutInput(strings.ToLower(string(r.details.Message)))
}

// maxLocations bounds of how many errors of pydantic's the parameters are looked for.
const maxLocations = 64

// locations returns the paths of pydantic's errors, which Mistral, vLLM and others
// on FastAPI have as a message: {"detail":[{"loc":["body","messages",0,"user","name"]}]}.
// It returns those of one type, or of all.
func locations(message word, ofType string) []string {
	type located struct {
		Type string `json:"type"`
		Loc  []word `json:"loc"`
	}
	var found struct {
		Detail []located `json:"detail"`
	}
	if json.Unmarshal([]byte(message), &found) != nil {
		_ = json.Unmarshal([]byte(message), &found.Detail)
	}
	var paths []string
	for _, d := range found.Detail[:min(len(found.Detail), maxLocations)] {
		if ofType != "" && d.Type != ofType {
			continue
		}
		path := ""
		for i, step := range d.Loc {
			switch _, err := strconv.Atoi(string(step)); {
			case i == 0 && step == "body":
			case err == nil:
				path += "[" + string(step) + "]"
			case strings.HasSuffix(path, "]") && (step == "user" || step == "assistant" || step == "system" || step == "tool"):
				// which kind of message it was taken for
			case path == "":
				path = string(step)
			default:
				path += "." + string(step)
			}
		}
		paths = append(paths, path)
	}
	return paths
}

// meaning returns the HTTP status that the error would have had: within a stream
// it stands in the code or is told by words.
func (r *refusal) meaning() int {
	if r.status != 200 {
		return r.status
	}
	for _, w := range []word{r.details.Code, r.details.Type} {
		if n, err := strconv.Atoi(string(w)); err == nil && n >= 400 && n <= 599 {
			return n
		}
		switch w := strings.ToLower(string(w)); w {
		case "invalid_request_error", "badrequesterror", "bad_request_error", "context_length_exceeded", "content_filter":
			return http.StatusBadRequest
		case "authentication_error", "invalid_api_key":
			return http.StatusUnauthorized
		case "permission_error":
			return http.StatusForbidden
		case "not_found_error", "notfounderror", "model_not_found":
			return http.StatusNotFound
		case "insufficient_quota", "too_many_requests":
			return http.StatusTooManyRequests
		default:
			if strings.HasPrefix(w, "rate_limit") || strings.HasPrefix(w, "ratelimit") {
				return http.StatusTooManyRequests
			}
		}
	}
	return http.StatusInternalServerError
}

// wait returns how long the upstream wants callers to wait, an hour at most, or 0
// where it does not say: in a header, in its details, or in its words.
func (r *refusal) wait(now time.Time) time.Duration {
	if d := retryAfter(r.header, now); d > 0 {
		return d
	}
	d, err := time.ParseDuration(r.delay)
	if err != nil {
		d = waitInWords(r.words())
	}
	return max(0, min(d, maxRetryAfter))
}

// waitInWords returns how long a sentence in lower case asks to wait, or 0.
func waitInWords(words string) time.Duration {
	for _, form := range []string{
		"try again in ", // OpenAI, Groq: 7.66s, 6m0s, 350ms (elizaOS/eliza#4040)
		"retry in ",     // Gemini: 53.016342224s (googleapis/python-genai#1875)
		"retry after ",  // Azure: 3 seconds (openai/openai-python#1010)
		"try again after ",
	} {
		_, rest, found := strings.Cut(words, form)
		if !found {
			continue
		}
		end := strings.IndexFunc(rest, func(c rune) bool { return c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') })
		if end < 0 {
			end = len(rest)
		}
		length := strings.TrimRight(rest[:end], ".")
		if strings.HasPrefix(strings.TrimLeft(rest[end:], " "), "second") {
			length += "s"
		}
		if d, err := time.ParseDuration(length); err == nil {
			return d
		}
	}
	return 0
}

// retryAfter returns how long a header asks to wait, an hour at most, or 0: RFC
// 9110 section 10.2.3, and OpenAI's retry-after-ms, which is the more exact.
func retryAfter(h http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64)
	seconds /= 1000
	if err != nil {
		seconds, err = strconv.ParseFloat(h.Get("Retry-After"), 64)
	}
	if err != nil {
		if date, err := http.ParseTime(h.Get("Retry-After")); err == nil {
			seconds = date.Sub(now).Seconds()
		}
	}
	if !(seconds > 0) { // nor NaN
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}

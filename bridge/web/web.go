// Package web holds what browsers are served: the page to try completions on,
// and the client that it and others import.
//
// The files are served as they are. The page's policy lets it load from its own
// origin and nothing else, and run no script or style that is not a file of its
// own: a model's text can only ever be text. vendor has what others wrote, as they
// publish it: markdown-it, which says what Markdown means. It was chosen for its bound
// on what it nests, and since it takes time in proportion to the text.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed index.html *.css *.js *.d.ts vendor
var files embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Routes returns a handler for each path that is served: the page's is /, and those of
// the other files are their names.
func Routes() map[string]http.Handler {
	routes := map[string]http.Handler{}
	_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			panic(err) // they are embedded
		}
		switch {
		case name == "index.html":
			routes["/"] = newFile(name)
		case !entry.IsDir():
			routes["/"+name] = newFile(name)
		}
		return nil
	})
	return routes
}

// file is a file in memory, with what tells one version of it from another.
type file struct {
	contentType, tag, body string
}

func newFile(name string) *file {
	body, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded under that name
	}
	contentType := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // not what the machine's tables say
	case ".js", ".mjs":
		contentType = "text/javascript; charset=utf-8"
	case ".ts", ".txt":
		contentType = "text/plain; charset=utf-8"
	}
	sum := sha256.Sum256(body)
	return &file{contentType, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, string(body)}
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // ask each time, which costs a 304
	h.Set("ETag", f.tag)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.body))
}

package transcode

import (
	"fmt"
	"regexp"
	"strings"
)

// OpenAPI has a path's parameters for single segments, and knows two paths only by what stands
// between them. So a variable of several segments, such as {name=users/*}, is documented as
// users/{name}, and routes that differ in their variables' names alone are one path, with the
// names of the first.

// template matches a variable of a path template.
var template = regexp.MustCompile(`\{\s*([^}=\s]+)\s*=?([^}]*)\}`)

// placeholder matches a parameter of a path that is documented.
var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// pathParameter is a segment of a path that a client fills in.
type pathParameter struct {
	name  string
	field string // that it is of
	of    string // the template of the variable that it is a part of; "": it is the whole
}

// documented returns a path as OpenAPI has it. One with wildcards outside of variables has no
// form there.
func documented(pattern string) (path string, parameters []pathParameter, ok bool) {
	path = template.ReplaceAllStringFunc(pattern, func(variable string) string {
		parts := template.FindStringSubmatch(variable)
		field, segments := parts[1], strings.TrimSpace(parts[2])
		if segments == "" || segments == "*" {
			parameters = append(parameters, pathParameter{name: field, field: field})
			return "{" + field + "}"
		}
		all := strings.Split(segments, "/")
		stars := 0
		for i, segment := range all {
			if segment != "*" && segment != "**" {
				continue
			}
			name := field
			if stars++; stars > 1 {
				name = fmt.Sprintf("%s_%d", field, stars)
			}
			parameters = append(parameters, pathParameter{name: name, field: field, of: segments})
			all[i] = "{" + name + "}"
		}
		return strings.Join(all, "/")
	})
	return path, parameters, !strings.Contains(path, "*")
}

// documentedPaths are those of a description, by their shapes.
type documentedPaths map[string]string

func newDocumentedPaths(paths object) documentedPaths {
	d := documentedPaths{}
	for path := range paths {
		d[shape(path)] = path
	}
	return d
}

func shape(path string) string { return placeholder.ReplaceAllString(path, "{}") }

// add returns the path of a binding, if it has one.
func (d documentedPaths) add(b *Binding) (path string, ok bool) {
	path, _, ok = documented(b.Pattern)
	if !ok {
		return "", false
	}
	if known := d[shape(path)]; known != "" {
		return known, true
	}
	d[shape(path)] = path
	return path, true
}

// pathParameters describes the parameters of a binding's path, under the names that they have
// in the path as it is documented.
func (b *Binding) pathParameters(s *schemas, path string) []object {
	var all []object
	_, parameters, _ := documented(b.Pattern)
	for i, name := range placeholder.FindAllString(path, -1) {
		p := parameters[i]
		described := object{"name": name[1 : len(name)-1], "in": "path", "required": true}
		if p.of != "" {
			described["schema"] = object{"type": "string"}
			described["description"] = fmt.Sprintf("A part of %s, which is %s.", p.field, p.of)
		} else {
			described["schema"] = s.field(fieldOf(b.Method.desc.Input(), strings.Split(p.field, ".")))
		}
		all = append(all, described)
	}
	return all
}

// operationIDs returns those of the bindings: the method's full name, and which one of its
// routes it is if it is not the method's own path. That may not be another method's name.
func (t *Table) operationIDs() map[*Binding]string {
	ids, taken := map[*Binding]string{}, map[string]bool{}
	for _, b := range t.byPath {
		ids[b] = string(b.Method.desc.FullName())
		taken[ids[b]] = true
	}
	routes := map[*Method]int{}
	for _, b := range t.bindings {
		name := string(b.Method.desc.FullName())
		for routes[b.Method]++; ids[b] == ""; routes[b.Method]++ {
			if id := fmt.Sprintf("%s_%d", name, routes[b.Method]); !taken[id] {
				ids[b], taken[id] = id, true
				break
			}
		}
	}
	return ids
}

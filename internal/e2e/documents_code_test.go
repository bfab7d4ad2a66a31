package e2e

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// code is what the repository's Go files have.
type code struct {
	idents   map[string]bool // all identifiers that are used
	declared map[string]bool // package.Name, Type.Member and package.Type.Member
	scopes   map[string]bool // packages and types
	lines    map[string]bool // of files that are no tests, without indentation
}

// repository reads the Go files once.
var repository = sync.OnceValues(func() (*code, error) {
	c := &code{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	err := filepath.WalkDir(e2etest.Root(), func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "node_modules":
			return filepath.SkipDir
		case filepath.Ext(name) != ".go":
			return nil
		}
		return c.read(name)
	})
	return c, err
})

func (c *code) read(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(name, "_test.go") {
		for line := range strings.Lines(string(text)) {
			c.lines[strings.TrimSpace(line)] = true
		}
	}
	file, err := parser.ParseFile(gotoken.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			c.idents[id.Name] = true
		}
		return true
	})
	pkg := file.Name.Name
	c.scopes[pkg] = true
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				c.declared[pkg+"."+d.Name.Name] = true
			} else {
				c.member(pkg, typeName(d.Recv.List[0].Type), d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				c.declare(pkg, spec)
			}
		}
	}
	return nil
}

func (c *code) declare(pkg string, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			c.declared[pkg+"."+n.Name] = true
		}
	case *ast.TypeSpec:
		c.declared[pkg+"."+s.Name.Name], c.scopes[s.Name.Name] = true, true
		var members *ast.FieldList
		switch t := s.Type.(type) {
		case *ast.StructType:
			members = t.Fields
		case *ast.InterfaceType:
			members = t.Methods
		default:
			return
		}
		for _, field := range members.List {
			for _, n := range field.Names {
				c.member(pkg, s.Name.Name, n.Name)
			}
		}
	}
}

func (c *code) member(pkg, of, name string) {
	c.declared[of+"."+name], c.declared[pkg+"."+of+"."+name] = true, true
}

// typeName is that of a receiver.
func typeName(e ast.Expr) string {
	for {
		switch t := e.(type) {
		case *ast.StarExpr:
			e = t.X
		case *ast.IndexExpr:
			e = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// has tells whether there is what a name stands for, such as server.Config.Journal.
func (c *code) has(name string) bool {
	scope, _, qualified := strings.Cut(name, ".")
	if qualified && c.scopes[scope] {
		return c.declared[name]
	}
	for part := range strings.SplitSeq(name, ".") {
		if !c.idents[part] {
			return false
		}
	}
	return true
}

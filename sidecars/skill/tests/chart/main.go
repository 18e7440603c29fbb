// Renders the chart as `helm template` does, where there is no helm: by Go's own templates and the functions of sprig,
// which are what helm renders with. Debian has both: golang-go, golang-github-masterminds-sprig-dev,
// golang-gopkg-yaml.v3-dev.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run ./tests/chart template NAME CHART [--values FILE]
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

// Lays b over a.
func merge(a, b map[string]interface{}) {
	for k, v := range b {
		if m, ok := v.(map[string]interface{}); ok {
			if n, ok := a[k].(map[string]interface{}); ok {
				merge(n, m)
				continue
			}
		}
		a[k] = v
	}
}

func read(p string) map[string]interface{} {
	b, err := os.ReadFile(p)
	if err != nil {
		panic(err)
	}
	m := map[string]interface{}{}
	if err := yaml.Unmarshal(b, &m); err != nil {
		panic(err)
	}
	return m
}

func main() {
	name, chart := os.Args[2], os.Args[3]
	values := read(filepath.Join(chart, "values.yaml"))
	if len(os.Args) > 5 {
		merge(values, read(os.Args[5]))
	}
	meta := read(filepath.Join(chart, "Chart.yaml"))
	t := template.New("chart").Option("missingkey=zero")
	f := sprig.TxtFuncMap()
	f["toYaml"] = func(v interface{}) string {
		var b bytes.Buffer
		e := yaml.NewEncoder(&b)
		e.SetIndent(2)
		e.Encode(v)
		return strings.TrimSuffix(b.String(), "\n")
	}
	f["include"] = func(n string, d interface{}) (string, error) {
		var b bytes.Buffer
		err := t.ExecuteTemplate(&b, n, d)
		return b.String(), err
	}
	f["required"] = func(w string, v interface{}) (interface{}, error) {
		if v == nil || v == "" {
			return v, errors.New(w)
		}
		return v, nil
	}
	t.Funcs(f)
	files, _ := filepath.Glob(filepath.Join(chart, "templates", "*.*"))
	more, _ := filepath.Glob(filepath.Join(chart, "templates", "tests", "*.*"))
	files = append(files, more...)
	for _, p := range files {
		b, _ := os.ReadFile(p)
		template.Must(t.New(p).Parse(string(b)))
	}
	data := map[string]interface{}{"Values": values, "Release": map[string]interface{}{"Name": name},
		"Chart": map[string]interface{}{"Name": meta["name"]}}
	for _, p := range files {
		if strings.HasPrefix(filepath.Base(p), "_") {
			continue
		}
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, p, data); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("---\n# Source: %s\n%s\n", p, b.String())
	}
}

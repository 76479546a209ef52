// Probe talks HTTP for the self-check's pods. Debian's static busybox dies on every host
// name (a static glibc can't load its resolver), so names are resolved here, in Go.
//
//	probe serve TEXT       answers every request on :8080 with TEXT
//	probe get URL          prints the body; tries again for 30 seconds
//	probe api              prints the API server's version, asked as the pod's account
//	probe unknown NAME     succeeds when NAME does not exist
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(client *http.Client, url, token string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return string(body), err
}

func insist(client *http.Client, url, token string) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		body, err := get(client, url, token)
		if err == nil {
			fmt.Print(body)
			return
		}
		if time.Now().After(deadline) {
			fail(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: probe serve|get|api|unknown ..."))
	}
	client := &http.Client{Timeout: 3 * time.Second}
	switch argument := strings.Join(os.Args[2:], " "); os.Args[1] {
	case "serve":
		answer := func(writer http.ResponseWriter, _ *http.Request) { fmt.Fprint(writer, argument) }
		fail(http.ListenAndServe(":8080", http.HandlerFunc(answer)))
	case "get":
		insist(client, argument, "")
	case "api":
		authority, err := os.ReadFile(account + "ca.crt")
		fail(err)
		token, err := os.ReadFile(account + "token")
		fail(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(authority)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		insist(client, "https://kubernetes.default.svc/version", string(token))
	case "unknown":
		_, err := net.DefaultResolver.LookupHost(context.Background(), argument)
		var lookup *net.DNSError
		if !errors.As(err, &lookup) || !lookup.IsNotFound {
			fail(fmt.Errorf("%s: %v", argument, err))
		}
	default:
		fail(fmt.Errorf("no command %q", os.Args[1]))
	}
}

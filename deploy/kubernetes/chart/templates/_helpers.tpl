{{- define "upwarden.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "upwarden.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "upwarden.labels" -}}
{{ include "upwarden.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "upwarden.host" -}}
{{- (urlParse (index .Values.config "public_url")).hostname }}
{{- end }}

{{- /* What the public door speaks. */}}
{{- define "upwarden.scheme" -}}
{{- if .Values.tls.secretName }}https{{ else }}http{{ end }}
{{- end }}

{{- /* What a release cannot do without, and what contradicts itself. */}}
{{- define "upwarden.validate" -}}
{{- $config := .Values.config }}
{{- range list "public_url" "upwork.client_id" }}
{{- if not (index $config .) }}{{ fail (printf "set config.%s: `--set config.%s=…`" . (. | replace "." "\\.")) }}{{ end }}
{{- end }}
{{- if not .Values.access }}{{ fail "set access.users, access.organizations or access.anyone: who may sign in" }}{{ end }}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not (index $config "public.trusted_proxies")) }}
{{- fail "set config.public\\.trusted_proxies to the addresses of the ingress's pods: otherwise all clients have its address" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}{{ fail "set httpRoute.parentRefs to your Gateway" }}{{ end }}
{{- if and (not .Values.app.container) (regexMatch "^https?://(127\\.|localhost|\\[::1\\])" .Values.app.url) }}
{{- fail "set app.container to your app's container, or app.url to the address of an app elsewhere" }}
{{- end }}
{{- if and (eq (toString (index $config "store.kind")) "embedded") (or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1)) }}
{{- fail "store.kind is embedded, whose file only one replica can open: set replicaCount to 1, or use Valkey" }}
{{- end }}
{{- end }}

{{- /* upwarden.toml, without the access rules. JSON's strings, numbers, booleans and lists are TOML's, too. */}}
{{- define "upwarden.toml" -}}
app.url = {{ .Values.app.url | quote }}
{{- if and .Values.app.container (or (index .Values.config "app.tickets") (index .Values.config "service.grant")) }}
# For the other containers of this pod only.
neighbour.listen = "127.0.0.1:4181"
{{- end }}
{{- if .Values.tls.secretName }}
public.tls.certificates = [{ cert_file = "/run/secrets/tls/tls.crt", key_file = "/run/secrets/tls/tls.key" }]
{{- end }}
{{- range $key, $value := .Values.config }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ if kindIs "float64" $value }}{{ $value | int64 }}{{ else }}{{ $value | toJson }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "upwarden.access" -}}
# Read again when this changes.
{{- range $key, $value := .Values.access }}
{{- if kindIs "map" $value }}
{{- range $user, $time := $value }}
access.{{ $key }}.{{ $user | quote }} = {{ $time | quote }}
{{- end }}
{{- else if kindIs "slice" $value }}
access.{{ $key }} = [{{ range $index, $id := $value }}{{ if $index }}, {{ end }}{{ $id | toString | quote }}{{ end }}]
{{- else }}
access.{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- /* upwarden's container: a native sidecar if there is an app's container. */}}
{{- define "upwarden.container" -}}
- name: upwarden
  image: "{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- if .Values.app.container }}
  # An init container that keeps running is a native sidecar: it starts before the app and ends after it.
  restartPolicy: Always
  {{- end }}
  args:
    - serve
    - --config=/etc/upwarden/upwarden.toml
    {{- with .Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - { name: public, containerPort: 4180 }
    - { name: admin, containerPort: 4182 }
  env:
    - { name: UPWARDEN_PUBLIC__LISTEN, value: "{{ .Values.listen }}:4180" }
    # The kubelet calls the pod's address, not loopback.
    - { name: UPWARDEN_ADMIN__LISTEN, value: "{{ .Values.listen }}:4182" }
    - { name: UPWARDEN_UPWORK__CLIENT_SECRET_FILE, value: /run/secrets/upwarden/upwork }
    - { name: UPWARDEN_SESSION__KEY_FILES, value: /run/secrets/upwarden/session-key }
    {{- if .Values.valkey.enabled }}
    - { name: UPWARDEN_STORE__KIND, value: valkey }
    - name: VALKEY_PASSWORD
      valueFrom: { secretKeyRef: { name: {{ .Values.existingSecret }}, key: valkey-password } }
    - { name: UPWARDEN_STORE__URL, value: "redis://:$(VALKEY_PASSWORD)@{{ include "upwarden.name" . }}-valkey:6379" }
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  lifecycle:
    preStop:
      # Starts together with the app's hook: the public door closes after drain.delay (5 s), so that kept-alive clients
      # reconnect to other pods. The neighbour door stays open for the app.
      exec: { command: [/usr/local/bin/upwarden, drain] }
  # The app starts once this has succeeded.
  startupProbe:
    httpGet: { path: /livez, port: admin }
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet: { path: /livez, port: admin }
  # Counts for the pod: while upwarden is not ready, the Service sends the pod no requests.
  readinessProbe:
    httpGet: { path: /readyz, port: admin }
    periodSeconds: 5
  {{- with .Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    # The group that may read the secret's files (0440), without an fsGroup that would change the app's volumes.
    runAsGroup: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL] }
    seccompProfile: { type: RuntimeDefault }
  volumeMounts:
    - { name: upwarden-config, mountPath: /etc/upwarden, readOnly: true }
    - { name: upwarden-secret, mountPath: /run/secrets/upwarden, readOnly: true }
    {{- if .Values.tls.secretName }}
    - { name: upwarden-tls, mountPath: /run/secrets/tls, readOnly: true }
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

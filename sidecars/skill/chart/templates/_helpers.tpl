{{- define "charly-skill.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The kubelet reaches no loopback address of a pod, so it runs the program itself to ask. */}}
{{- define "charly-skill.probe" -}}
exec:
  command: [/usr/bin/charly-skill, --probe, {{ printf "--listen=%s" .Values.listen | quote }}]
{{- end }}

{{/* The sidecar: an entry of `initContainers`. Another chart can include it, with "charly-skill.volumes". */}}
{{- define "charly-skill.container" -}}
- name: skill
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  args:
    - --manifests=/etc/charly-skill/manifests
    {{- if .Values.requireManifest }}
    - --require-manifest
    {{- end }}
    - --token-file=/run/secrets/charly-skill/token
    - --grace={{ .Values.grace }}
    - {{ printf "--listen=%s" .Values.listen | quote }}
    {{- range .Values.args }}
    {{- if or (hasPrefix "--listen=" .) (eq "--listen" .) }}
    {{- fail "set `listen` instead of the argument --listen: the probes have to know it too" }}
    {{- end }}
    - {{ . | quote }}
    {{- end }}
  {{- if .Values.credentials }}
  env:
    {{- range .Values.credentials }}
    - name: {{ .name }}
      valueFrom:
        secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
    {{- end }}
  {{- end }}
  startupProbe:
    {{- include "charly-skill.probe" . | nindent 4 }}
    {{- toYaml .Values.startupProbe | nindent 4 }}
  livenessProbe:
    {{- include "charly-skill.probe" . | nindent 4 }}
    {{- toYaml .Values.livenessProbe | nindent 4 }}
  securityContext: {{- toYaml .Values.securityContext | nindent 4 }}
  resources: {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - {name: skill-token, mountPath: /run/secrets/charly-skill, readOnly: true}
    - {name: skill-manifests, mountPath: /etc/charly-skill/manifests, readOnly: true}
    - {name: skill-work, mountPath: /tmp}
{{- end }}

{{- define "charly-skill.volumes" -}}
- name: skill-token
  secret:
    secretName: {{ required "set token.secret to the name of the Secret that holds the token" .Values.token.secret | quote }}
    defaultMode: 292
    items:
      - {key: {{ .Values.token.key | quote }}, path: token}
- name: skill-manifests
  configMap:
    name: {{ .Release.Name }}-skill-manifests
- name: skill-work
  emptyDir:
    sizeLimit: {{ .Values.workSizeLimit | quote }}
{{- end }}

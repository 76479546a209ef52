"""Reasons that pods give, whatever kind they belong to."""

from __future__ import annotations

from wan_runtime.contract.reasons import Explanation

REASONS: dict[str, Explanation] = {
    "ContainerFailed": Explanation(
        "The container ended without a result; the message has its exit code.",
        "The process was killed, the image is not the runtime's, or a library ended the process.",
        "`kubectl logs POD --previous` and `kubectl describe pod POD` have the end. It is tried "
        "again as far as `spec.retries` allows.",
    ),
    "ResultMissing": Explanation(
        "The container exited with 0 but left no readable result. The step is retried and reports "
        "it again.",
        "The termination message was lost, as when a node restarts.",
        "Nothing, if it happens once. Else `kubectl get pod POD -o yaml` shows what the container "
        "left, and `runtime.image` may be of another release than the operator.",
    ),
    "PodEvicted": Explanation(
        "The pod was evicted, preempted or drained before it could save a checkpoint.",
        "A node was drained or ran out of disk or memory, or a pod of a higher priority took its "
        "place.",
        "Nothing: the step is retried. `kubectl describe node NODE` has the cause; a "
        "`podTemplate.priorityClassName` protects from preemption.",
    ),
    "PodRejected": Explanation(
        "A node does not take in the pods that were scheduled to it; the message is the kubelet's.",
        "A GPU of the node fails or its device plugin does not answer, or something else took the "
        "room.",
        "`kubectl describe node NODE` shows what is allocated. Mend the node, or keep pods off it "
        "with `kubectl cordon NODE`; the next pod goes elsewhere.",
    ),
    "PodLost": Explanation(
        "The pod, or its node, was deleted and left no result.",
        "Somebody or an autoscaler deleted it.",
        "Nothing: the step is retried. `kubectl get events --sort-by=.lastTimestamp` may show who "
        "it was.",
    ),
    "JobLost": Explanation(
        "The Job of the running attempt was deleted.",
        "Somebody deleted a Job that belongs to a run.",
        "Nothing: the step is retried. Stop a run with `kubectl patch KIND/NAME --type=merge -p "
        '\'{"spec":{"suspend":true}}\'`, not by deleting its Jobs.',
    ),
    "NodeLost": Explanation(
        "The node of the pod does not answer. The pod counts as running until the node is back or "
        "removed.",
        "The node or its network is down.",
        "Bring the node back, or remove it with `kubectl delete node NODE` or `kubectl taint node "
        "NODE node.kubernetes.io/out-of-service=:NoExecute`.",
    ),
    "Unschedulable": Explanation(
        "No node fits the pod; the message is the scheduler's.",
        "Requested GPUs, CPUs, memory or scratch space are free on no node, or the node selector, "
        "taints or tolerations match none.",
        "`kubectl describe nodes` shows labels, taints and what is free. Lower `resources` or "
        "correct `podTemplate` with `kubectl edit KIND/NAME`, or add a node; the pod follows.",
    ),
    "ImagePullBackOff": Explanation(
        "The image cannot be pulled; the message names it.",
        "Name or tag of the image is wrong, its registry does not answer, or a pull Secret is "
        "missing in the namespace of the resource.",
        "`helm upgrade --reuse-values --set runtime.image=IMAGE --set "
        "'runtime.pullSecrets={SECRET}'`, or create the pull Secret: `kubectl create secret "
        "docker-registry SECRET --docker-server=… --docker-username=… --docker-password=…`.",
    ),
    "SecretNotFound": Explanation(
        "A Secret that the pod needs, or a key in it, does not exist; the message names both, and "
        "the namespace.",
        "The Secret was not created in the namespace of the resource, or has another name or "
        "other keys.",
        "`kubectl create secret generic SECRET --from-literal=KEY=…`. A store needs the keys "
        "`accessKey` and `secretKey`, a database `url`, a webhook `secret`. The pod starts within "
        "a minute.",
    ),
    "ContainerConfigError": Explanation(
        "The container cannot be configured; the message is the kubelet's.",
        "A ConfigMap, a key or a path that the pod mounts does not exist, or its security context "
        "is refused.",
        "Create what the message names, such as `kubectl create configmap NAME "
        "--from-file=ca.crt`, or correct `podTemplate` with `kubectl edit KIND/NAME`.",
    ),
    "ConfigMapNotFound": Explanation(
        "A ConfigMap that the pod needs, or a key in it, does not exist; the message names both.",
        "The ConfigMap was not created in the namespace of the resource, or has another name or "
        "other keys.",
        "`kubectl create configmap NAME --from-file=KEY=FILE`, or correct the name in the spec or "
        "in the Helm values. The pod starts within two minutes.",
    ),
    "PodSandboxFailed": Explanation(
        "The node cannot set up the pod; the message is the kubelet's.",
        "The network plugin of the node fails, or its runtime class has no handler there.",
        "`kubectl describe pod POD` has all tries. Mend the node, or keep pods off it with "
        "`kubectl cordon NODE`; the pod follows.",
    ),
    "VolumePending": Explanation(
        "A volume of the pod is not available yet; the message names it.",
        "The PersistentVolumeClaim does not exist, is not bound, or is in use on another node.",
        "`kubectl get pvc` and `kubectl describe pvc CLAIM`. Create the claim, or correct its "
        "name in the spec or in the Helm value `modelCache.persistentVolumeClaim`.",
    ),
    "PodStarting": Explanation("The pod has a node, and its container is being created."),
    "PodNotCreated": Explanation(
        "The Job has no pod: the cluster refuses it.",
        "A ResourceQuota is used up, a LimitRange or an admission rule refuses the pod, or its "
        "PriorityClass or service account does not exist.",
        "`kubectl describe job JOB` and `kubectl describe quota,limitrange` show what refuses it. "
        "Raise the quota, or change `resources` or `podTemplate` with `kubectl edit KIND/NAME`.",
    ),
    "QuotaExceeded": Explanation(
        "A ResourceQuota of the namespace has no room for the pod; the message is the API "
        "server's.",
        "Other pods use the quota up, or it is smaller than what one pod requests.",
        "`kubectl describe quota` shows both. Wait, raise the quota, or lower `resources` with "
        "`kubectl edit KIND/NAME`. The pod is created within half a minute of the change.",
    ),
    "PriorityClassNotFound": Explanation(
        "The PriorityClass of the pod does not exist; the message names it.",
        "`podTemplate.priorityClassName` is misspelt, or the class was not created.",
        "`kubectl get priorityclass` lists those that there are. Create it, or correct the name "
        "with `kubectl edit KIND/NAME`.",
    ),
    "ServiceAccountNotFound": Explanation(
        "The service account of the pod does not exist in the namespace; the message names it.",
        "`podTemplate.serviceAccountName` is misspelt, or the account was not created.",
        "`kubectl create serviceaccount NAME`, or correct the name with `kubectl edit KIND/NAME`.",
    ),
    "PodRefused": Explanation(
        "The API server refuses to create the pod; the message is its answer.",
        "A LimitRange, the Pod Security level of the namespace or an admission webhook forbids "
        "what the pod asks for.",
        "Change what the message names: the rule, or `resources` and `podTemplate` with `kubectl "
        "edit KIND/NAME`. `kubectl describe limitrange` shows limits.",
    ),
    "QueueNotFound": Explanation(
        "The queue of the Job, or the ClusterQueue behind it, does not exist; the message names "
        "it.",
        "The label `kueue.x-k8s.io/queue-name` of the resource is misspelt, or the queue was not "
        "created in the namespace.",
        "`kubectl get localqueues` lists those that there are. Create it, or name another: "
        "`kubectl label KIND/NAME --overwrite kueue.x-k8s.io/queue-name=QUEUE`.",
    ),
    "QueueInactive": Explanation(
        "The queue of the Job, or the ClusterQueue behind it, takes no Jobs; the message names it.",
        "Its `stopPolicy` holds it, or it names a ResourceFlavor or an AdmissionCheck that does "
        "not exist.",
        "`kubectl describe clusterqueue QUEUE` has the cause under the condition `Active`.",
    ),
    "QueueTooSmall": Explanation(
        "The Job requests more than its queue has in all; the message is Kueue's.",
        "The quota of the ClusterQueue, with what it may borrow, is below the request of one Job.",
        "Raise the quota with `kubectl edit clusterqueue QUEUE`, lower `resources` with `kubectl "
        "edit KIND/NAME`, or name another queue: `kubectl label KIND/NAME --overwrite "
        "kueue.x-k8s.io/queue-name=QUEUE`.",
    ),
    "QueueRefuses": Explanation(
        "Kueue will not start the Job as it is; the message is Kueue's.",
        "The ClusterQueue does not select the namespace, or covers not all resources that the pod "
        "requests, such as the ephemeral-storage that a LimitRange adds; none of its "
        "ResourceFlavors has nodes that `podTemplate` allows; or a LimitRange refuses the "
        "requests.",
        "Change what the message names: `kubectl edit clusterqueue QUEUE`, or `resources` and "
        "`podTemplate` with `kubectl edit KIND/NAME`. Where the Workload has ended, `kubectl "
        "delete job JOB` has another made.",
    ),
    "WorkloadDeactivated": Explanation(
        "Kueue's Workload of the Job is deactivated; the message has Kueue's cause.",
        "Somebody deactivated it, or Kueue did: an admission check was rejected, its pods were "
        "repeatedly not ready in time, or it reached its longest execution time.",
        "Mend the cause, and `kubectl patch workload WORKLOAD --type=merge -p "
        '\'{"spec":{"active":true}}\'`.',
    ),
    "WorkloadEvicted": Explanation(
        "Kueue has taken the Job's place away, and it waits in its queue again; the message has "
        "the cause.",
        "A Workload of a higher priority took its place, its pods were not ready in time, or its "
        "queue was stopped.",
        "Nothing: it starts again once there is room, and goes on from its last checkpoint. "
        "`kubectl describe workload WORKLOAD` has more.",
    ),
    "Queued": Explanation(
        "Kueue holds the Job until there is room in its queue; the message is Kueue's.",
        "Other Jobs use the quota of the queue.",
        "`kubectl describe workloads` has more. Wait, raise the quota of the "
        "ClusterQueue, or name another queue: `kubectl label KIND/NAME --overwrite "
        "kueue.x-k8s.io/queue-name=QUEUE`.",
    ),
}
